// Reads that fail: at exact places, everywhere, and of a source whose device is gone. What could not be read is written nowhere,
// or, with errors ignored, arrives as zeros and is listed.
import { expect } from 'vitest';
import type { FaultyFile } from '../support/faulty.js';
import { SECTOR } from '../support/kcopyd.js';
import { copy, eachSetting, regions, source } from './support/matrix.js';
import { COUNT, DEVICE_BYTES, FROM_SECTOR, PIECE, type Place, type Rig } from './support/rig.js';
import { expectTruth } from './support/truth.js';

/** Two bad places in different pieces, and one just outside of the region on either side. */
const BAD = [
  { sector: FROM_SECTOR + 200, count: 8 },
  { sector: FROM_SECTOR + 640, count: 16 },
];
const OUTSIDE = [
  { sector: FROM_SECTOR - 8, count: 8 },
  { sector: FROM_SECTOR + COUNT, count: 8 },
];

async function badPlaces(rig: Rig): Promise<Place> {
  return rig.once('bad-reads', async () => {
    const file = await rig.file('source');
    const bad = [...BAD, ...OUTSIDE].map(({ sector, count }) => ({ offset: sector * SECTOR, length: count * SECTOR }));
    const faulty = await rig.workshop.faulty({ kind: 'bad-reads', file, bytes: DEVICE_BYTES, bad });
    return rig.on(faulty, file, { readOnly: true });
  });
}

interface Odd {
  readonly faulty: FaultyFile;
  readonly place: Place;
}

function allReadsFail(rig: Rig): Promise<Odd> {
  return rig.once('read-errors', async () => {
    const file = await rig.file('source');
    const faulty = await rig.workshop.faulty({ kind: 'read-errors', file });
    // Attaching may look at the device's first sectors.
    faulty.heal();
    return { faulty, place: await rig.on(faulty, file) };
  });
}

const failure = (sector: number, count: number): object => {
  return { op: 'read', destination: null, sector, count, code: 'EIO', errno: 5 };
};

eachSetting('P8 two places of the source are bad, errors ignored', { from: badPlaces }, async (trial) => {
  const { error, outcome } = await copy(trial, { ignoreErrors: true });
  expect(error).toMatchObject({ code: 'EIO', syscall: 'read', path: trial.from.path });
  expect(outcome).toMatchObject({ readErr: 5, writeErr: 0, sectors: 200 });
  expect(outcome.failures).toEqual(BAD.map(({ sector, count }) => failure(sector, count)));
  expect(outcome.destinations).toEqual(trial.to.map(() => ({ sectors: 200, ok: false })));
  await expectTruth(outcome, trial.to, { ignoreErrors: true });
});

eachSetting('P8 two places of the source are bad, and the job stops', { from: badPlaces }, async (trial) => {
  const { outcome } = await copy(trial);
  expect(outcome).toMatchObject({ readErr: 5, writeErr: 0, sectors: 192 });
  // Which of the two is known first depends on the moment, if both were under way; the job stops there, and does not look again
  // whether the other one is bad.
  const known = [failure(FROM_SECTOR + 192, PIECE), failure(FROM_SECTOR + 640, PIECE)];
  expect(outcome.failures.length).toBeGreaterThan(0);
  for (const one of outcome.failures) expect(known).toContainEqual(one);
  await expectTruth(outcome, trial.to);
});

eachSetting('P15 two places of the source are bad, sequentially', { from: badPlaces }, async (trial) => {
  // It overrides ignoreErrors, as in the kernel. What was read ahead and has not had its turn is not written any more.
  const { outcome } = await copy(trial, { sequential: true, ignoreErrors: true });
  expect(outcome).toMatchObject({ readErr: 5, writeErr: 0 });
  expect(outcome.sectors).toBeLessThanOrEqual(192);
  await expectTruth(outcome, trial.to);
});

const ALL_FAIL = { from: async (rig: Rig) => (await allReadsFail(rig)).place };

eachSetting('P14 nothing of the source can be read, errors ignored', ALL_FAIL, async (trial) => {
  const { faulty } = await allReadsFail(trial.rig);
  faulty.fail();
  const { outcome } = await copy(trial, { ignoreErrors: true });
  faulty.heal();
  expect(outcome.failures).toEqual([failure(FROM_SECTOR, COUNT)]);
  await expectTruth(outcome, trial.to, { ignoreErrors: true });
});

eachSetting('P8 nothing of the source can be read, then everything', ALL_FAIL, async (trial) => {
  const { faulty } = await allReadsFail(trial.rig);
  faulty.fail();
  const { outcome } = await copy(trial);
  faulty.heal();
  expect(outcome).toMatchObject({ readErr: 5, writeErr: 0, sectors: 0 });
  await expectTruth(outcome, trial.to);
  const again = await trial.client.copy(source(trial), regions(trial));
  expect(again).toMatchObject({ readErr: 0, writeErr: 0, sectors: COUNT });
  await expectTruth(again, trial.to);
});
