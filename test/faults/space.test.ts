// No space left: a device that is full, a sparse file on a file system that is too small under a loop device, a file that would
// have to grow there, and memory that a zram device may not have. ENOSPC is an error of that destination alone.
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Outcome } from 'kcopyd';
import { expect } from 'vitest';
import { output } from '../support/command.js';
import { MIB, SECTOR } from '../support/kcopyd.js';
import { hasExt4 } from '../support/machine.js';
import { copy, eachSetting, MATRIX } from './support/matrix.js';
import { COUNT, DEVICE_BYTES, type Place, type Rig, TO_SECTOR, type Trial, Unavailable } from './support/rig.js';
import { expectTruth } from './support/truth.js';

/** There is room for half of the region at most. */
const ROOM_BYTES = (COUNT / 2) * SECTOR;

function expectOddIsFull(trial: Trial, outcome: Outcome): void {
  expect(outcome).toMatchObject({ readErr: 0, writeErr: 2 ** trial.odd });
  expect(outcome.failures.length).toBeGreaterThan(0);
  for (const failure of outcome.failures) {
    expect(failure).toMatchObject({ op: 'write', destination: trial.odd, code: 'ENOSPC', errno: 28 });
  }
}

const FULL = {
  to: (rig: Rig): Promise<Place> =>
    rig.once('full', async () => {
      const faulty = await rig.workshop.faulty({ kind: 'full', bytes: DEVICE_BYTES });
      return rig.on(faulty, undefined);
    }),
};

eachSetting('P11 a full device, errors ignored', FULL, async (trial) => {
  const { outcome } = await copy(trial, { ignoreErrors: true });
  expectOddIsFull(trial, outcome);
  expect(outcome.failures).toHaveLength(1);
  expect(outcome.failures[0]).toMatchObject({ sector: TO_SECTOR, count: COUNT });
  expect(outcome.destinations[trial.odd]).toEqual({ sectors: 0, ok: false });
  await expectTruth(outcome, trial.to, { ignoreErrors: true });
});

/**
 * The file system has room for half a region. The case is undone by cutting the file: else the next one has no room at all.
 * Pieces are not merged, so that none of them meets the end half-way: the loop driver would call that a success (SECURITY.md).
 */
const SPARSE = {
  to: (rig: Rig): Promise<Place> =>
    rig.once('tmpfs', async () => {
      const directory = await rig.workshop.tmpfs(ROOM_BYTES);
      const file = await rig.workshop.file({ bytes: DEVICE_BYTES, path: join(directory, 'sparse') });
      const { path } = await rig.workshop.attach(file, { sectorSize: rig.sectorSize, merges: false });
      return { path, file, sparse: true };
    }),
};

eachSetting('P11 a loop device over a sparse file on a full tmpfs, errors ignored', SPARSE, async (trial) => {
  const { outcome } = await copy(trial, { ignoreErrors: true });
  expectOddIsFull(trial, outcome);
  const lost = outcome.failures.reduce((sum, { count }) => sum + count, 0);
  // Half of the region has room, and a little may go to the file system itself.
  expect(lost).toBeGreaterThanOrEqual(COUNT / 2);
  expect(lost).toBeLessThanOrEqual(COUNT / 2 + 64);
  await expectTruth(outcome, trial.to, { ignoreErrors: true });
});

eachSetting('P11 a loop device over a sparse file on a full tmpfs, and the job stops', SPARSE, async (trial) => {
  const { outcome } = await copy(trial);
  expectOddIsFull(trial, outcome);
  await expectTruth(outcome, trial.to);
});

/** An ordinary file in an ext4 of 2 MiB that is nearly full, on a loop device of the block size. */
const EXT4 = {
  to: (rig: Rig): Promise<Place> =>
    rig.once('ext4', async () => {
      const found = await hasExt4();
      if (!found.available) throw new Unavailable(found.reason);
      const disk = await rig.workshop.loop({ bytes: 8 * MIB, sectorSize: rig.sectorSize });
      await output('mkfs.ext4', ['-q', '-O', '^has_journal', '-m', '0', '-b', '4096', disk.path]);
      const directory = await rig.workshop.mount(disk.path);
      const { bavail, bsize } = await statfs(directory);
      const file = join(directory, 'destination');
      await rig.workshop.file({ bytes: DEVICE_BYTES, path: file });
      await rig.workshop.file({ bytes: bavail * bsize - ROOM_BYTES, seed: 'filler', path: join(directory, 'filler') });
      return { path: file, file, sparse: true };
    }),
};

eachSetting('P11 a file on a full ext4, errors ignored', EXT4, async (trial) => {
  const { outcome } = await copy(trial, { ignoreErrors: true });
  expectOddIsFull(trial, outcome);
  const lost = outcome.failures.reduce((sum, { count }) => sum + count, 0);
  expect(lost).toBeGreaterThanOrEqual(COUNT / 2);
  expect(lost).toBeLessThanOrEqual(COUNT / 2 + 64);
  await expectTruth(outcome, trial.to, { ignoreErrors: true });
});

/** A zram device that may have 256 KiB of memory: random bytes do not compress. Its blocks are always of 4096 bytes. */
const ZRAM = {
  settings: MATRIX.filter(({ sectorSize }) => sectorSize === 4096),
  to: (rig: Rig): Promise<Place> =>
    rig.once('zram', async () => ({ path: await rig.workshop.zram(DEVICE_BYTES, ROOM_BYTES), file: undefined })),
};

eachSetting('P12 a zram device that may have no more memory, errors ignored', ZRAM, async (trial) => {
  const { outcome } = await copy(trial, { ignoreErrors: true });
  expect(outcome).toMatchObject({ readErr: 0, writeErr: 2 ** trial.odd });
  expect(outcome.failures.length).toBeGreaterThan(0);
  for (const failure of outcome.failures) expect(failure).toMatchObject({ op: 'write', destination: trial.odd });
  await expectTruth(outcome, trial.to, { ignoreErrors: true });
});
