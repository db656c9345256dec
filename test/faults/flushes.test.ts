// Flushes that fail while every write succeeds: an error of that destination, of its whole region, and for good.
import { Device } from 'kcopyd';
import { expect } from 'vitest';
import type { FaultyFile } from '../support/faulty.js';
import { copy, eachSetting, ended, regions, source } from './support/matrix.js';
import { COUNT, type Place, type Rig, TO_SECTOR, type Trial } from './support/rig.js';
import { expectTruth } from './support/truth.js';

interface Odd {
  readonly faulty: FaultyFile;
  readonly place: Place;
}

function flushesFail(rig: Rig): Promise<Odd> {
  return rig.once('flush-errors', async () => {
    const file = await rig.file('before');
    const faulty = await rig.workshop.faulty({ kind: 'flush-errors', file });
    return { faulty, place: await rig.on(faulty, file) };
  });
}

const FAULT = { to: async (rig: Rig) => (await flushesFail(rig)).place };

function failed(trial: Trial): object {
  return { op: 'flush', destination: trial.odd, sector: TO_SECTOR, count: COUNT, code: 'EIO', errno: 5 };
}

for (const ignoreErrors of [false, true]) {
  const how = ignoreErrors ? 'errors ignored' : 'errors not ignored';
  eachSetting(`P18 the flush of one destination fails, ${how}`, FAULT, async (trial) => {
    const { error, outcome } = await copy(trial, { flush: true, ignoreErrors });
    expect(error).toMatchObject({ code: 'EIO', syscall: 'fdatasync', destination: trial.odd });
    expect(outcome).toMatchObject({ readErr: 0, writeErr: 2 ** trial.odd, failures: [failed(trial)] });
    const others = outcome.destinations.filter((_, index) => index !== trial.odd);
    expect(others.every(({ ok, sectors }) => ok && sectors === COUNT)).toBe(true);
    await expectTruth(outcome, trial.to, { ignoreErrors });
  });
}

eachSetting('P18 a failed flush stays failed until the device is reopened', FAULT, async (trial) => {
  const { faulty } = await flushesFail(trial.rig);
  const to = regions(trial);
  const device = await Device.open(trial.to[trial.odd]!.path, { access: 'write' });
  to[trial.odd] = { ...to[trial.odd]!, device };
  const flushed = () => ended(trial.client.copy(source(trial), to, { flush: true }));
  try {
    expect((await flushed()).outcome.failures).toEqual([failed(trial)]);
    faulty.heal();
    expect((await flushed()).outcome.failures).toEqual([failed(trial)]);
  } finally {
    await device.close();
  }
  try {
    const { outcome } = await copy(trial, { flush: true });
    expect(outcome).toMatchObject({ readErr: 0, writeErr: 0, failures: [] });
    await expectTruth(outcome, trial.to);
  } finally {
    faulty.fail();
  }
});
