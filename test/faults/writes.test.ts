// Writes that fail: all of one destination's, those at one exact place, and those for which there is no room. The others get
// everything, and the outcome says exactly what is missing where.
import { expect } from 'vitest';
import type { FaultyFile } from '../support/faulty.js';
import { SECTOR } from '../support/kcopyd.js';
import { copy, eachSetting, regions, source } from './support/matrix.js';
import { COUNT, PIECE, type Place, type Rig, TO_SECTOR, type Trial } from './support/rig.js';
import { expectTruth } from './support/truth.js';

const BAD = { sector: TO_SECTOR + 400, count: 8 };

interface Odd {
  readonly faulty: FaultyFile;
  readonly place: Place;
}

/** A destination whose writes fail while the fault is on. */
function allWritesFail(rig: Rig): Promise<Odd> {
  return rig.once('write-errors', async () => {
    const file = await rig.file('before');
    const faulty = await rig.workshop.faulty({ kind: 'write-errors', file });
    return { faulty, place: await rig.on(faulty, file) };
  });
}

/** A destination with one bad page. */
function oneBadPlace(rig: Rig): Promise<Odd> {
  return rig.once('bad-writes', async () => {
    const file = await rig.file('before');
    const bad = { offset: BAD.sector * SECTOR, length: BAD.count * SECTOR };
    const faulty = await rig.workshop.faulty({ kind: 'bad-writes', file, bad });
    return { faulty, place: await rig.on(faulty, file) };
  });
}

const place = async (odd: Promise<Odd>): Promise<Place> => (await odd).place;

function failure(trial: Trial, sector: number, count: number): object {
  return { op: 'write', destination: trial.odd, sector, count, code: 'EIO', errno: 5 };
}

const ALL_FAIL = { to: (rig: Rig) => place(allWritesFail(rig)) };
const ONE_BAD = { to: (rig: Rig) => place(oneBadPlace(rig)) };

eachSetting('P14 every write of one destination fails, errors ignored', ALL_FAIL, async (trial) => {
  const { error, outcome } = await copy(trial, { ignoreErrors: true });
  expect(error).toMatchObject({
    code: 'EIO',
    syscall: 'write',
    destination: trial.odd,
    path: trial.to[trial.odd]!.path,
  });
  expect(outcome.failures).toEqual([failure(trial, TO_SECTOR, COUNT)]);
  const expected = trial.to.map((_, index) => ({ sectors: index === trial.odd ? 0 : COUNT, ok: index !== trial.odd }));
  expect(outcome.destinations).toEqual(expected);
  await expectTruth(outcome, trial.to, { ignoreErrors: true });
});

eachSetting('P13 every write of one destination fails, and the job stops', ALL_FAIL, async (trial) => {
  const { outcome } = await copy(trial);
  expect(outcome).toMatchObject({ readErr: 0, writeErr: 2 ** trial.odd, sectors: 0 });
  // Not more than the pieces that one job has under way, of the 32 that it has.
  const failed = outcome.failures.reduce((sum, { count }) => sum + count, 0);
  expect(failed).toBeLessThanOrEqual(24 * PIECE);
  await expectTruth(outcome, trial.to);
});

eachSetting('P15 every write of one destination fails, sequentially', ALL_FAIL, async (trial) => {
  const { outcome } = await copy(trial, { sequential: true });
  expect(outcome).toMatchObject({ readErr: 0, writeErr: 2 ** trial.odd, sectors: 0 });
  expect(outcome.failures).toEqual([failure(trial, TO_SECTOR, PIECE)]);
  await expectTruth(outcome, trial.to);
});

eachSetting('P14 one page of one destination is bad, errors ignored', ONE_BAD, async (trial) => {
  const { outcome } = await copy(trial, { ignoreErrors: true });
  expect(outcome.failures).toEqual([failure(trial, BAD.sector, BAD.count)]);
  expect(outcome.destinations[trial.odd]).toEqual({ sectors: BAD.sector - TO_SECTOR, ok: false });
  await expectTruth(outcome, trial.to, { ignoreErrors: true });
});

eachSetting('P13 one page of one destination is bad, and the job stops', ONE_BAD, async (trial) => {
  const { outcome } = await copy(trial);
  const piece = BAD.sector - (BAD.sector % PIECE);
  expect(outcome.failures).toEqual([failure(trial, piece, PIECE)]);
  expect(outcome.destinations[trial.odd]!.sectors).toBe(piece - TO_SECTOR);
  await expectTruth(outcome, trial.to);
});

eachSetting('P17 writes that failed succeed once the device is well again', ALL_FAIL, async (trial) => {
  const { faulty } = await allWritesFail(trial.rig);
  expect((await copy(trial)).outcome.writeErr).toBe(2 ** trial.odd);
  faulty.heal();
  try {
    const outcome = await trial.client.copy(source(trial), regions(trial), { flush: true });
    expect(outcome).toMatchObject({ readErr: 0, writeErr: 0, sectors: COUNT, failures: [] });
    await expectTruth(outcome, trial.to);
  } finally {
    faulty.fail();
  }
});
