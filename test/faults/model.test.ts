// Random jobs on real devices and a model of their bytes, as fsx does it with a file: many at once, copies and zeroes, between
// disks with blocks of 512 and of 4096, a file in memory and one on a file system with direct I/O, each of them source and
// destination. What overlaps waits for each other; after every ten thousand jobs all bytes are compared.
import { join } from 'node:path';
import { expect } from 'vitest';
import { output } from '../support/command.js';
import { MIB, onEachEngine } from '../support/kcopyd.js';
import { hasExt4 } from '../support/machine.js';
import { test } from '../support/test.js';
import type { Workshop } from '../support/workshop.js';
import { needsTorture, seedOf, times, torture, worked } from './support/torture.js';

const JOBS = times('KCOPYD_TEST_JOBS', 10_000);
const TIMEOUT_MS = 1_800_000;

/** A file on an ext4, which does direct I/O. */
async function onExt4(workshop: Workshop): Promise<string[]> {
  if (!(await hasExt4()).available) return [];
  const disk = await workshop.loop({ bytes: 32 * MIB });
  await output('mkfs.ext4', ['-q', '-O', '^has_journal', disk.path]);
  const path = join(await workshop.mount(disk.path), 'device');
  await workshop.file({ bytes: 4 * MIB, seed: 'on ext4', path });
  return [`${path}=${path}`];
}

onEachEngine((engine) => {
  test('P5 random jobs between devices give what a model says', { timeout: TIMEOUT_MS }, async ({ workshop, skip }) => {
    needsTorture(skip);
    const { targets } = await worked(workshop, ['512', '4096', 'file']);
    const well = await workshop.loop({ bytes: 4 * MIB, seed: 'well' });
    const all = [`${well.path}=${well.file}`, ...targets, ...(await onExt4(workshop))];
    const counted = await torture<{ jobs: number }>(['model', JOBS, seedOf(engine), engine, ...all], TIMEOUT_MS);
    console.log(`${engine}: ${JSON.stringify(counted)}`);
    expect(counted.jobs).toBe(JOBS);
  });
});
