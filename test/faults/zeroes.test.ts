// Zeroes that fail: on a device that makes them itself and fails all of them, and on one that cannot and has a bad page. What is
// zero after all, and what is not, is what the outcome says.
import { readFile } from 'node:fs/promises';
import { expect } from 'vitest';
import { SECTOR } from '../support/kcopyd.js';
import { eachSetting, ended } from './support/matrix.js';
import { before, COUNT, type Place, type Rig, TO_SECTOR, type Trial } from './support/rig.js';

const BAD = { sector: TO_SECTOR + 400, count: 8 };

function allWritesFail(rig: Rig): Promise<Place> {
  return rig.once('write-errors', async () => {
    const file = await rig.file('before');
    return rig.on(await rig.workshop.faulty({ kind: 'write-errors', file }), file);
  });
}

function oneBadPlace(rig: Rig): Promise<Place> {
  return rig.once('bad-writes', async () => {
    const file = await rig.file('before');
    const bad = { offset: BAD.sector * SECTOR, length: BAD.count * SECTOR };
    return rig.on(await rig.workshop.faulty({ kind: 'bad-writes', file, bad }), file);
  });
}

/** P6, P14: the region is zero but for `lost`, and nothing else has changed. */
async function expectZero({ to, odd }: Trial, lost: { sector: number; count: number }): Promise<void> {
  for (const [index, place] of to.entries()) {
    const expected = Buffer.from(before(place));
    expected.fill(0, TO_SECTOR * SECTOR, (TO_SECTOR + COUNT) * SECTOR);
    const [first, end] = [lost.sector * SECTOR, (lost.sector + lost.count) * SECTOR];
    if (index === odd) before(place).copy(expected, first, first, end);
    const found = await readFile(place.file!);
    const wrong = found.equals(expected) ? -1 : found.findIndex((byte, at) => byte !== expected[at]);
    expect(wrong < 0 ? 'nothing' : `sector ${Math.floor(wrong / SECTOR)}`, `wrong in ${index}`).toBe('nothing');
  }
}

for (const [what, to, lost] of [
  ['nothing of one destination', allWritesFail, { sector: TO_SECTOR, count: COUNT }],
  ['all but a page of one destination', oneBadPlace, BAD],
] as const) {
  eachSetting(`P14 zeroes: ${what} can be written, errors ignored`, { to }, async (trial) => {
    const regions = trial.to.map(({ path }) => ({ device: path, sector: TO_SECTOR, count: COUNT }));
    const { error, outcome } = await ended(trial.client.zero(regions, { ignoreErrors: true, flush: true }));
    expect(error).toMatchObject({ code: 'EIO', destination: trial.odd });
    expect(outcome).toMatchObject({ readErr: 0, writeErr: 2 ** trial.odd, sectors: lost.sector - TO_SECTOR });
    expect(outcome.failures).toEqual([{ op: 'zero', destination: trial.odd, ...lost, code: 'EIO', errno: 5 }]);
    expect(outcome.destinations.every(({ ok }, index) => ok === (index !== trial.odd))).toBe(true);
    await expectZero(trial, lost);
  });
}
