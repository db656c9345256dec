// What the tests' own tools promise: a fault that does not happen would make every test above it pass for nothing.
import { existsSync } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { expect } from 'vitest';
import { output, run } from './support/command.js';
import { randomBytes } from './support/random.js';
import { test } from './support/test.js';
import { Workshop } from './support/workshop.js';

const MIB = 1 << 20;

/** dd with direct I/O reads or writes one block; whether it could. */
async function succeeds(...operands: readonly string[]): Promise<boolean> {
  const ended = await run('dd', ['bs=4096', 'count=1', 'conv=notrunc', 'status=none', ...operands]);
  return ended.code === 0;
}

test('a seed gives the same bytes at any offset', () => {
  const whole = randomBytes('seed', 4096);
  expect(randomBytes('seed', 1024, 2048)).toEqual(whole.subarray(2048, 3072));
  expect(randomBytes('other', 4096)).not.toEqual(whole);
});

test('a command that does not end is given up', async () => {
  await expect(run('sleep', ['30'], { timeoutMs: 50 })).rejects.toThrow('no end after 50 ms');
});

test.for([512, 4096] as const)('a loop device of %i-byte sectors shows its file', async (sectorSize, { workshop }) => {
  const loop = await workshop.loop({ bytes: MIB, seed: 'loop', sectorSize });
  expect(await output('blockdev', ['--getss', loop.path])).toBe(String(sectorSize));
  expect(await readFile(loop.path)).toEqual(randomBytes('loop', MIB));
});

test('nothing is left when a workshop is cleared away', async ({ workshop: outer }) => {
  // Asked of the outer one first: where it is not allowed the test ends here, and leaves nothing.
  const small = await outer.tmpfs(MIB);
  await (await outer.faulty({ kind: 'full', bytes: MIB })).stop();
  expect(existsSync(small)).toBe(true);
  const workshop = new Workshop();
  const loop = await workshop.loop({ bytes: MIB });
  const faulty = await workshop.faulty({ kind: 'full', bytes: MIB });
  await workshop.dispose();
  expect(existsSync(workshop.directory)).toBe(false);
  expect(await output('losetup', ['--list', '--noheadings', '--output', 'NAME'])).not.toContain(`${loop.path}\n`);
  await expect(stat(faulty.path)).rejects.toThrow('ENOENT');
});

test('bad reads are exactly where they were put', async ({ workshop }) => {
  const file = await workshop.file({ bytes: MIB, seed: 'bad-reads' });
  const faulty = await workshop.faulty({ kind: 'bad-reads', file, bytes: MIB, bad: [{ offset: 65536, length: 4096 }] });
  const loop = await workshop.attach(faulty.path, { readOnly: true });
  const reads = (block: number): Promise<boolean> =>
    succeeds(`if=${loop.path}`, 'of=/dev/null', 'iflag=direct', `skip=${block}`);
  expect([await reads(15), await reads(16), await reads(17)]).toEqual([true, false, true]);
});

test('write errors are turned on and off', async ({ workshop }) => {
  const file = await workshop.file({ bytes: MIB });
  const faulty = await workshop.faulty({ kind: 'write-errors', file });
  const loop = await workshop.attach(faulty.path);
  const writes = (): Promise<boolean> => succeeds('if=/dev/zero', `of=${loop.path}`, 'oflag=direct');
  expect(await writes()).toBe(false);
  faulty.heal();
  expect(await writes()).toBe(true);
  faulty.fail();
  expect(await writes()).toBe(false);
});

test('read errors are turned on and off', async ({ workshop }) => {
  const file = await workshop.file({ bytes: MIB });
  const faulty = await workshop.faulty({ kind: 'read-errors', file });
  faulty.heal();
  const loop = await workshop.attach(faulty.path);
  const reads = (): Promise<boolean> => succeeds(`if=${loop.path}`, 'of=/dev/null', 'iflag=direct');
  expect(await reads()).toBe(true);
  faulty.fail();
  expect(await reads()).toBe(false);
});

test('bad writes are exactly where they were put', async ({ workshop }) => {
  const file = await workshop.file({ bytes: MIB });
  const faulty = await workshop.faulty({ kind: 'bad-writes', file, bad: { offset: 65536, length: 4096 } });
  const loop = await workshop.attach(faulty.path);
  const writes = (block: number): Promise<boolean> =>
    succeeds('if=/dev/zero', `of=${loop.path}`, 'oflag=direct', `seek=${block}`);
  expect([await writes(15), await writes(16), await writes(17)]).toEqual([true, false, true]);
});

test('a flush fails while writes succeed', async ({ workshop }) => {
  const file = await workshop.file({ bytes: MIB });
  const faulty = await workshop.faulty({ kind: 'flush-errors', file });
  const loop = await workshop.attach(faulty.path);
  const args = ['if=/dev/urandom', `of=${loop.path}`, 'oflag=direct'];
  expect(await succeeds(...args)).toBe(true);
  expect(await succeeds(...args, 'conv=notrunc,fdatasync')).toBe(false);
  faulty.heal();
  expect(await succeeds(...args, 'conv=notrunc,fdatasync')).toBe(true);
});

test('a full device gives ENOSPC, and so does a small file system', async ({ workshop }) => {
  const full = await workshop.faulty({ kind: 'full', bytes: MIB });
  const handle = await open(full.path, 'r+');
  await expect(handle.write(Buffer.alloc(4096)).then(() => handle.datasync())).rejects.toThrow('ENOSPC');
  await handle.close().catch(() => undefined);
  const small = await workshop.tmpfs(MIB);
  await expect(workshop.file({ bytes: 4 * MIB, seed: 'full', path: `${small}/file` })).rejects.toThrow('ENOSPC');
});

test('a device that vanishes fails at once', async ({ workshop }) => {
  const file = await workshop.file({ bytes: MIB });
  const faulty = await workshop.faulty({ kind: 'slow', file, readMs: 1 });
  expect((await readFile(faulty.path)).length).toBe(MIB);
  await faulty.vanish();
  await expect(open(faulty.path)).rejects.toThrow('ENOTCONN');
});
