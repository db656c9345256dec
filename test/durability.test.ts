// `flush`: after it the data is durable, and a flush that failed once is never taken back by one that succeeds.
import { readFile } from 'node:fs/promises';
import { Device } from 'kcopyd';
import { expect } from 'vitest';
import { expectFile, inOwnProcess, MIB, onEachEngine, rejection, test } from './support/kcopyd.js';
import { programs } from './support/machine.js';
import { randomBytes } from './support/random.js';

onEachEngine((engine) => {
  test.for(['a file', 'a block device'] as const)(
    'P18 a failed flush stays failed until %s is reopened, also when a second fsync says yes',
    async (what, { workshop, client }) => {
      const source = await workshop.file({ bytes: MIB, seed: 'source' });
      const faulty = await workshop.faulty({ kind: 'flush-errors', file: await workshop.file({ bytes: MIB }) });
      const path = what === 'a file' ? faulty.path : (await workshop.attach(faulty.path)).path;
      const copier = await client({ engine });
      const device = await Device.open(path, { access: 'write' });
      const copy = (to: Device, flush: boolean) => copier.copy({ device: source, count: 8 }, { device: to }, { flush });
      const failed = {
        code: 'EIO',
        syscall: 'fdatasync',
        outcome: {
          writeErr: 1,
          failures: [{ op: 'flush', destination: 0, sector: 0, count: 8, code: 'EIO', errno: 5 }],
          destinations: [{ ok: false }],
        },
      };
      expect(await rejection(copy(device, true))).toMatchObject(failed);
      faulty.heal();
      // The kernel forgets what it has told once; we do not.
      expect(await rejection(copy(device, true))).toMatchObject(failed);
      expect(await rejection(copier.zero({ device, count: 8 }, { flush: true }))).toMatchObject(failed);
      expect((await copy(device, false)).destinations).toEqual([{ sectors: 8, ok: true }]);
      await device.close();
      const reopened = await Device.open(path, { access: 'write' });
      expect((await copy(reopened, true)).destinations).toEqual([{ sectors: 8, ok: true }]);
      await reopened.close();
    },
  );

  test('P18 a failed flush of one destination is not that of another', async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const faulty = await workshop.faulty({ kind: 'flush-errors', file: await workshop.file({ bytes: MIB }) });
    const good = await workshop.file({ bytes: 0 });
    const copier = await client({ engine, subJobSectors: 64 });
    const to = [{ device: faulty.path }, { device: good }];
    const { outcome } = await rejection(copier.copy({ device: source }, to, { flush: true }));
    expect(outcome).toMatchObject({ readErr: 0, writeErr: 0b01 });
    expect(outcome?.destinations[1]).toEqual({ sectors: 2048, ok: true });
    await expectFile(good, randomBytes('source', MIB));
  });

  test('a job without flush flushes nothing, and one that failed does not flush what failed', async ({
    workshop,
    client,
  }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const faulty = await workshop.faulty({ kind: 'flush-errors', file: await workshop.file({ bytes: MIB }) });
    const copier = await client({ engine });
    for (const options of [{}, { flush: false }]) {
      await copier.copy({ device: source }, { device: faulty.path }, options);
    }
    expect((await readFile(faulty.path)).equals(randomBytes('source', MIB))).toBe(true);
  });
});

test('P18 a flush of a file made by create syncs its directory too', async ({ workshop, skip }) => {
  const strace = programs('strace');
  if (!strace.available) skip(strace.reason);
  // On threads, where a system call is one that strace shows; the ring's is counted in crates/kcopyd.
  const script = `
    const client = await KcopydClient.create({ engine: 'threads' });
    const made = await Device.open(args.made, { access: 'write', create: true });
    await client.copy({ device: args.source }, { device: made }, { flush: true });
    await client.copy({ device: args.source }, { device: args.there }, { flush: true });`;
  const args = {
    source: await workshop.file({ bytes: MIB, seed: 'source' }),
    there: await workshop.file({ bytes: 0 }),
    made: workshop.path('.made'),
  };
  const log = workshop.path('.strace');
  const wrap = ['strace', '-f', '-qq', '-y', '-o', log, '-e', 'trace=fsync,fdatasync'];
  expect(await inOwnProcess(script, args, { wrap })).toMatchObject({ code: 0, stderr: '' });
  const calls = [...(await readFile(log, 'utf8')).matchAll(/(fsync|fdatasync)\(\d+<([^>]*)>\)\s+= 0/g)];
  const synced = calls.map(([, , path]) => path);
  expect(synced.filter((path) => path === args.made)).toHaveLength(1);
  expect(synced.filter((path) => path === args.there)).toHaveLength(1);
  expect(
    synced.filter((path) => path === workshop.directory),
    'the directory, for the new file alone',
  ).toHaveLength(1);
});

test('P17 what only closing tells of is an error: of a Device, and of a job by path that had succeeded', async ({
  workshop,
  skip,
}) => {
  const strace = programs('strace');
  if (!strace.available) skip(strace.reason);
  const [source, to] = [await workshop.file({ bytes: MIB }), await workshop.file({ bytes: 0 })];
  const script = `
    const client = await KcopydClient.create();
    const error = await client.copy({ device: args.source, count: 8 }, { device: args.to }).catch((error) => error);
    const { code, errno, syscall, path, outcome } = error;
    console.log(JSON.stringify({ code, errno, syscall, path, ok: outcome?.destinations?.[0]?.ok }));
    const device = await Device.open(args.to);
    console.log(await device.close().catch(({ code, syscall }) => code + ' ' + syscall));
    await client.close();`;
  // As NFS answers to it when the server has no room for what lies in the page cache.
  const wrap = ['strace', '-f', '-qq', '-o', '/dev/null', '-P', to, '-e', 'trace=close'];
  // (What strace answers for the kernel stays open, with its lock: so the second time it is opened for reading.)
  wrap.push('-e', 'inject=close:error=ENOSPC');
  const { code, stdout, stderr } = await inOwnProcess(script, { source, to }, { wrap });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const [job, device] = stdout.trim().split('\n');
  expect(JSON.parse(job!)).toEqual({ code: 'ENOSPC', errno: -28, syscall: 'close', path: to, ok: true });
  expect(device).toBe('ENOSPC close');
});
