// A destination that refuses a wrong byte (nbdkit's checkwrite filter): it knows what must arrive, and answers EIO to anything
// else. Nobody compares afterwards, so a wrong write that a later one would hide is seen too.

import { open } from 'node:fs/promises';
import { expect } from 'vitest';
import { SECTOR } from '../support/kcopyd.js';
import { copy, eachSetting } from './support/matrix.js';
import { COUNT, DEVICE_BYTES, FROM_SECTOR, type Place, type Rig, SOURCE, TO_SECTOR } from './support/rig.js';
import { expectTruth } from './support/truth.js';

/** A judge that expects the region to arrive, with one byte different at `wrong`. */
async function judge(rig: Rig, wrong?: number): Promise<Place> {
  return rig.once(`judge ${wrong}`, async () => {
    const reference = await rig.workshop.file({ bytes: DEVICE_BYTES, seed: 'not to be written' });
    const region = Buffer.from(SOURCE.subarray(FROM_SECTOR * SECTOR, (FROM_SECTOR + COUNT) * SECTOR));
    if (wrong !== undefined) region[wrong]! ^= 1;
    const handle = await open(reference, 'r+');
    await handle.write(region, 0, region.length, TO_SECTOR * SECTOR);
    await handle.close();
    const faulty = await rig.workshop.faulty({ kind: 'judge', reference });
    return rig.on(faulty, undefined);
  });
}

eachSetting('P5 a judge of every byte has nothing to refuse', { to: (rig) => judge(rig) }, async (trial) => {
  const { outcome } = await copy(trial, { flush: true });
  expect(outcome).toMatchObject({ readErr: 0, writeErr: 0, sectors: COUNT, failures: [] });
  await expectTruth(outcome, trial.to);
});

const WRONG = 777 * SECTOR + 5;

eachSetting(
  'P14 a judge that expects one other byte refuses its page',
  { to: (rig) => judge(rig, WRONG) },
  async (trial) => {
    const { outcome } = await copy(trial, { ignoreErrors: true });
    const page = TO_SECTOR + 776;
    expect(outcome.failures).toEqual([
      { op: 'write', destination: trial.odd, sector: page, count: 8, code: 'EIO', errno: 5 },
    ]);
    await expectTruth(outcome, trial.to, { ignoreErrors: true });
  },
);
