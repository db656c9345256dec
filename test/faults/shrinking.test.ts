// Devices that become smaller under an open descriptor, after the request was checked: requests over the new end come short, those
// behind it have no bytes to give or no room. That is an error of exactly that range, never a success and never a loop.
import { open, truncate } from 'node:fs/promises';
import { expect } from 'vitest';
import { output } from '../support/command.js';
import { SECTOR } from '../support/kcopyd.js';
import { randomBytes } from '../support/random.js';
import { type Copied, copy, eachSetting, waits } from './support/matrix.js';
import { COUNT, DEVICE_BYTES, FROM_SECTOR, PIECE, type Place, type Rig, TO_SECTOR, type Trial } from './support/rig.js';
import { expectTruth } from './support/truth.js';

/** In the middle of the sixth piece. */
const LEFT = 5 * PIECE + 24;

/** A device that answers only when it is told to: so that a job is under way and has not begun to use the other device. */
function gate(rig: Rig, seed: 'source' | 'before') {
  return rig.once(`gate ${seed}`, async () => {
    const file = await rig.file(seed);
    const faulty = await rig.workshop.faulty({ kind: 'slow', file });
    return { faulty, place: await rig.on(faulty, file) };
  });
}

function shrinkable(rig: Rig, seed: 'source' | 'before') {
  return rig.once(`shrinkable ${seed}`, async () =>
    rig.workshop.loop({ bytes: DEVICE_BYTES, seed, sectorSize: rig.sectorSize }),
  );
}

async function setBytes({ path, file }: Place, bytes: number): Promise<void> {
  await truncate(file!, bytes);
  await output('losetup', ['--set-capacity', path]);
}

/** Makes it as large as it was, with the bytes that it had there. */
async function restore(place: Place, seed: string, from: number): Promise<void> {
  await setBytes(place, DEVICE_BYTES);
  const handle = await open(place.file!, 'r+');
  const bytes = randomBytes(seed, DEVICE_BYTES).subarray(from);
  await handle.write(bytes, 0, bytes.length, from);
  await handle.close();
}

/** Copies; while the gate is shut after the first requests, the device shrinks to `sectors`. */
async function shrinkDuring(
  trial: Trial,
  gated: 'source' | 'before',
  place: Place,
  sectors: number,
  ignoreErrors: boolean,
): Promise<Copied> {
  const { faulty } = await gate(trial.rig, gated);
  faulty.stick();
  try {
    const copied = copy(trial, { ignoreErrors });
    await waits(trial.client);
    await setBytes(place, sectors * SECTOR);
    faulty.resume();
    return await copied;
  } finally {
    faulty.resume();
    await restore(place, gated === 'source' ? 'before' : 'source', sectors * SECTOR);
  }
}

/** The pool holds one piece: behind it nothing of the source has been read when the gate shuts. */
const SOURCE_SHRINKS = {
  pages: PIECE / 8,
  from: (rig: Rig): Promise<Place> => shrinkable(rig, 'source'),
  to: async (rig: Rig) => (await gate(rig, 'before')).place,
};

eachSetting('P16 the source shrinks, errors ignored', SOURCE_SHRINKS, async (trial) => {
  const { error, outcome } = await shrinkDuring(trial, 'before', trial.from, FROM_SECTOR + LEFT, true);
  expect(error).toMatchObject({ code: 'EIO', syscall: 'read' });
  expect(outcome).toMatchObject({ readErr: 5, writeErr: 0, sectors: LEFT });
  const lost = {
    op: 'read',
    destination: null,
    sector: FROM_SECTOR + LEFT,
    count: COUNT - LEFT,
    code: 'EIO',
    errno: 5,
  };
  expect(outcome.failures).toEqual([lost]);
  await expectTruth(outcome, trial.to, { ignoreErrors: true });
});

eachSetting('P16 the source shrinks, and the job stops', SOURCE_SHRINKS, async (trial) => {
  const { outcome } = await shrinkDuring(trial, 'before', trial.from, FROM_SECTOR + LEFT, false);
  expect(outcome).toMatchObject({ readErr: 5, writeErr: 0 });
  expect(outcome.sectors).toBeLessThanOrEqual(LEFT);
  expect(outcome.failures).toHaveLength(1);
  expect(outcome.failures[0]).toMatchObject({ op: 'read', sector: FROM_SECTOR + LEFT });
  await expectTruth(outcome, trial.to);
});

const DESTINATION_SHRINKS = {
  from: async (rig: Rig) => (await gate(rig, 'source')).place,
  to: (rig: Rig): Promise<Place> => shrinkable(rig, 'before'),
};

for (const ignoreErrors of [true, false]) {
  const how = ignoreErrors ? 'errors ignored' : 'and the job stops';
  eachSetting(`P16 a destination shrinks, ${how}`, DESTINATION_SHRINKS, async (trial) => {
    const place = trial.to[trial.odd]!;
    const { outcome } = await shrinkDuring(trial, 'source', place, TO_SECTOR + LEFT, ignoreErrors);
    expect(outcome).toMatchObject({ readErr: 0, writeErr: 2 ** trial.odd });
    expect(outcome.destinations[trial.odd]).toEqual({ sectors: LEFT, ok: false });
    for (const { op, destination, sector } of outcome.failures) {
      expect([op, destination]).toEqual(['write', trial.odd]);
      expect(sector).toBeGreaterThanOrEqual(TO_SECTOR + LEFT);
    }
    if (ignoreErrors) expect(outcome.failures).toMatchObject([{ sector: TO_SECTOR + LEFT, count: COUNT - LEFT }]);
    await expectTruth(outcome, trial.to, { ignoreErrors });
  });
}
