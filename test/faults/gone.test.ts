// Devices that vanish with requests in flight: the program behind the file is killed, or the kernel gives it up. Those requests
// fail, the job ends, and the others' bytes are what the outcome says. Each case has a device of its own.
import { expect } from 'vitest';
import type { FaultyFile } from '../support/faulty.js';
import { copy, eachSetting, waits } from './support/matrix.js';
import { COUNT, type Place, type Rig, TO_SECTOR, type Trial } from './support/rig.js';
import { expectTruth } from './support/truth.js';

let mortal: FaultyFile;

/** A device on a file that is well until something is done to it. */
async function aDevice(rig: Rig, seed: 'source' | 'before'): Promise<Place> {
  const file = await rig.file(seed);
  mortal = await rig.workshop.faulty({ kind: 'slow', file });
  return rig.on(mortal, file);
}

const TO = { to: (rig: Rig) => aDevice(rig, 'before') };
const FROM = { from: (rig: Rig) => aDevice(rig, 'source') };

async function abort({ rig }: Trial): Promise<void> {
  mortal.abort(await rig.once('control', () => rig.workshop.fuseControl()));
  // Only now: a program that is stopped does not see that it has nothing to serve any more.
  mortal.resume();
}

const ENDS = [
  ['its program is killed', () => mortal.vanish()],
  ['the kernel gives it up', abort],
] as const;

for (const [how, end] of ENDS) {
  eachSetting(`P13 a destination vanishes with writes in flight, ${how}`, TO, async (trial) => {
    mortal.stick();
    const copied = copy(trial);
    await waits(trial.client);
    await end(trial);
    const { error, outcome } = await copied;
    expect(error).toMatchObject({ syscall: 'write', destination: trial.odd });
    expect(outcome).toMatchObject({ readErr: 0, writeErr: 2 ** trial.odd });
    for (const failure of outcome.failures) expect(failure).toMatchObject({ op: 'write', destination: trial.odd });
    await expectTruth(outcome, trial.to);
    // And whoever comes later gets an error too, at once.
    const later = await copy(trial, { ignoreErrors: true });
    expect(later.outcome).toMatchObject({ readErr: 0, writeErr: 2 ** trial.odd });
    expect(later.outcome.failures).toMatchObject([{ op: 'write', sector: TO_SECTOR, count: COUNT }]);
    await expectTruth(later.outcome, trial.to, { ignoreErrors: true });
  });

  eachSetting(`P8 the source vanishes with reads in flight, ${how}`, FROM, async (trial) => {
    mortal.stick();
    const copied = copy(trial);
    await waits(trial.client);
    await end(trial);
    const { error, outcome } = await copied;
    expect(error).toMatchObject({ syscall: 'read', path: trial.from.path });
    expect(outcome).toMatchObject({ writeErr: 0, sectors: 0 });
    // Which of the requests in flight comes home first is not said, and after the first failure none is tried again.
    expect(outcome.failures[0]).toMatchObject({ op: 'read', errno: outcome.readErr });
    expect(outcome.failures.reduce((sum, { count }) => sum + count, 0)).toBeLessThan(COUNT / 2);
    await expectTruth(outcome, trial.to);
  });
}

eachSetting('P14 a destination vanishes with writes in flight, errors ignored', TO, async (trial) => {
  mortal.stick();
  const copied = copy(trial, { ignoreErrors: true, flush: true });
  await waits(trial.client);
  await mortal.vanish();
  const { outcome } = await copied;
  expect(outcome).toMatchObject({ readErr: 0, writeErr: 2 ** trial.odd });
  expect(outcome.destinations.every(({ ok }, index) => ok === (index !== trial.odd))).toBe(true);
  await expectTruth(outcome, trial.to, { ignoreErrors: true });
});
