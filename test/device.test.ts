// Devices: what can be opened and what is told about it, what a region may lie on, and when a descriptor is closed.
import { spawn } from 'node:child_process';
import { openSync, readdirSync, readlinkSync } from 'node:fs';
import { appendFile, open, readFile, rename, stat, symlink, truncate } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { Device, KcopydClient } from 'kcopyd';
import { describe, expect } from 'vitest';
import { output } from './support/command.js';
import { completion, expectFile, MIB, onEachEngine, rejection, test } from './support/kcopyd.js';
import { randomBytes } from './support/random.js';

/** How many descriptors of this process are open on a path. */
function descriptorsOn(path: string): number {
  const targets = readdirSync('/proc/self/fd').map((descriptor) => {
    try {
      return readlinkSync(`/proc/self/fd/${descriptor}`);
    } catch {
      return ''; // the one that read the directory
    }
  });
  return targets.filter((target) => target === path).length;
}

describe('Device.open', () => {
  test('tells what a file is', async ({ workshop, device }) => {
    const path = await workshop.file({ bytes: 1000 });
    const file = await device(path);
    expect(file).toMatchObject({ path, kind: 'file', bytes: 1000, sectors: 2 });
    expect([512, 1024, 2048, 4096]).toContain(file.logicalBlockSize);
    expect(file.direct).toBeTypeOf('boolean');
    expect(file.directReason).not.toBe('');
  });

  test.for([512, 4096] as const)(
    'tells what a block device with blocks of %i bytes is',
    async (sectorSize, { workshop, device }) => {
      const loop = await workshop.loop({ bytes: MIB, sectorSize });
      const block = await device(loop.path);
      expect(block).toMatchObject({
        path: loop.path,
        kind: 'block',
        bytes: MIB,
        sectors: 2048,
        logicalBlockSize: sectorSize,
        direct: true,
      });
      expect(block.physicalBlockSize).toBeGreaterThanOrEqual(sectorSize);
    },
  );

  test('direct is never when that is asked for, and the reason says so', async ({ workshop, device }) => {
    const loop = await workshop.loop({ bytes: MIB });
    const block = await device(loop.path, { direct: 'never' });
    expect(block.direct).toBe(false);
    expect(block.directReason).not.toBe('');
  });

  test('a path that does not exist is ENOENT', async ({ workshop }) => {
    const path = workshop.path();
    const error = await rejection(Device.open(path));
    expect(error).toMatchObject({ name: 'KcopydError', code: 'ENOENT', errno: -2, syscall: 'open', path });
    expect(error.message).toMatch(`ENOENT: no such file or directory, open '${path}'`);
    expect(error).not.toHaveProperty('destination');
    expect(error).not.toHaveProperty('outcome');
  });

  test('a directory, a character device and a pipe are refused, and none of them hangs', async ({ workshop }) => {
    const pipe = workshop.path();
    await output('mkfifo', [pipe]);
    for (const path of [workshop.directory, '/dev/null', pipe]) {
      const error = await rejection(Device.open(path));
      expect(error.code, path).toMatch(/^(ERR_KCOPYD_UNSUPPORTED_DEVICE|EISDIR)$/);
      expect(error.path).toBe(path);
    }
  });

  test('a read-only device cannot be opened for writing', async ({ workshop }) => {
    const file = await workshop.file({ bytes: MIB });
    const loop = await workshop.attach(file, { readOnly: true });
    expect((await rejection(Device.open(loop.path, { access: 'write' }))).code).toMatch(/^(EROFS|EACCES|EPERM)$/);
  });

  test('a mounted device is EBUSY, and the mount point is named', async ({ workshop }) => {
    const loop = await workshop.loop({ bytes: 8 * MIB });
    await output('mkfs.ext4', ['-q', loop.path]);
    const directory = await workshop.mount(loop.path);
    const error = await rejection(Device.open(loop.path, { access: 'write' }));
    expect(error).toMatchObject({ code: 'EBUSY', errno: -16, syscall: 'open', path: loop.path });
    expect(error.message).toContain(directory);
  });

  test('expect refuses any other device', async ({ workshop, device }) => {
    const loop = await workshop.loop({ bytes: MIB });
    const { rdev } = await stat(loop.path);
    const right = await device(loop.path, { expect: { rdev, size: MIB } });
    expect(right.bytes).toBe(MIB);
    for (const expected of [{ rdev: rdev + 1 }, { size: MIB + 512 }, { diskSequence: 2 ** 50 }]) {
      const error = await rejection(Device.open(loop.path, { expect: expected }));
      expect(error, JSON.stringify(expected)).toMatchObject({ code: 'ERR_KCOPYD_UNEXPECTED_DEVICE', path: loop.path });
    }
  });

  test('create makes a regular file, and only where it is asked for', async ({ workshop, device }) => {
    const path = workshop.path();
    expect((await rejection(Device.open(path, { access: 'write' }))).code).toBe('ENOENT');
    const made = await device(path, { access: 'write', create: true });
    expect(made).toMatchObject({ kind: 'file', bytes: 0, sectors: 0 });
    const nowhere = '/dev/kcopyd-test-must-not-be-made';
    await rejection(Device.open(nowhere, { access: 'write', create: true }));
    await expect(stat(nowhere)).rejects.toThrow('ENOENT');
  });

  test('close is one close, however often it is called, and what was known stays known', async ({ workshop }) => {
    const path = await workshop.file({ bytes: 1000 });
    const device = await Device.open(path);
    const closing = device.close();
    expect(device.close()).toBe(closing);
    expect(device[Symbol.asyncDispose]()).toBe(closing);
    await closing;
    expect(descriptorsOn(path)).toBe(0);
    expect(device).toMatchObject({ path, bytes: 1000, sectors: 2 });
  });

  test('await using closes it', async ({ workshop }) => {
    const path = await workshop.file({ bytes: 1000 });
    {
      await using device = await Device.open(path);
      expect(descriptorsOn(path)).toBeGreaterThan(0);
      expect(device.bytes).toBe(1000);
    }
    expect(descriptorsOn(path)).toBe(0);
  });
});

onEachEngine((engine) => {
  test('a region may lie on a Device, a path as string, URL or Buffer, a FileHandle and a descriptor', async ({
    workshop,
    client,
    device,
  }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const copier = await client({ engine });
    // A name that is no UTF-8: only a Buffer can say it.
    const strange = Buffer.concat([Buffer.from(workshop.directory), Buffer.from([47, 0xff, 0xfe])]);
    await rename(await workshop.file({ bytes: 0 }), strange);
    const [asString, asUrl, byHandle, byNumber, asDevice] = await Promise.all(
      Array.from({ length: 5 }, () => workshop.file({ bytes: 0 })),
    );
    const handle = await open(byHandle!, 'r+');
    const other = await open(byNumber!, 'r+');
    const outcome = await copier.copy({ device: pathToFileURL(source) }, [
      { device: asString! },
      { device: pathToFileURL(asUrl!) },
      { device: strange },
      { device: handle },
      { device: other.fd },
      { device: await device(asDevice!, { access: 'write' }) },
    ]);
    expect(outcome.destinations).toHaveLength(6);
    for (const path of [asString!, asUrl!, byHandle!, byNumber!, asDevice!])
      await expectFile(path, randomBytes('source', MIB));
    expect((await readFile(strange)).equals(randomBytes('source', MIB))).toBe(true);
    // The caller's own are still the caller's.
    expect((await handle.stat()).size).toBe(MIB);
    await Promise.all([handle.close(), other.close()]);
  });

  test("P29 a caller's descriptor is duplicated before copy returns", async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const destination = await workshop.file({ bytes: 0 });
    const copier = await client({ engine });
    const handles = [await open(source, 'r'), await open(destination, 'r+')] as const;
    const copying = copier.copy({ device: handles[0] }, { device: handles[1].fd });
    await Promise.all(handles.map((handle) => handle.close()));
    await copying;
    await expectFile(destination, randomBytes('source', MIB));
    expect([descriptorsOn(source), descriptorsOn(destination)]).toEqual([0, 0]);
  });

  test('P29 a descriptor that appends, or is open the wrong way, is refused; a closed one is EBADF', async ({
    workshop,
    client,
  }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const path = await workshop.file({ bytes: MIB, seed: 'before' });
    const copier = await client({ engine });
    for (const flags of ['a', 'r']) {
      const handle = await open(path, flags);
      const error = await rejection(copier.copy({ device: source }, { device: handle }));
      expect(error, flags).toMatchObject({ code: 'ERR_KCOPYD_ACCESS', destination: 0 });
      await handle.close();
    }
    const closed = await open(path, 'r+');
    await closed.close();
    expect((await rejection(copier.copy({ device: source }, { device: closed }))).code).toBe('EBADF');
    await expectFile(path, randomBytes('before', MIB));
  });

  test('P33 what is opened for a job is closed before its promise settles', async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const loop = await workshop.loop({ bytes: MIB });
    const copier = await client({ engine });
    await copier.copy({ device: source }, { device: loop.path });
    expect([descriptorsOn(source), descriptorsOn(loop.path)]).toEqual([0, 0]);
    // Exclusively, at once: nothing of the job is left, its registered slot neither.
    await (await Device.open(loop.path, { access: 'write', exclusive: true })).close();
    await rejection(copier.copy({ device: source, sector: 9999 }, { device: loop.path }));
    await rejection(copier.copy({ device: source }, [{ device: loop.path }, { device: workshop.path() }]));
    expect([descriptorsOn(source), descriptorsOn(loop.path)]).toEqual([0, 0]);
  });

  test('a path that cannot be opened names its destination', async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB });
    const there = await workshop.file({ bytes: 0 });
    const missing = workshop.path();
    const copier = await client({ engine });
    const error = await rejection(copier.copy({ device: source }, [{ device: there }, { device: missing }]));
    expect(error).toMatchObject({ code: 'ENOENT', syscall: 'open', path: missing, destination: 1 });
    expect(await rejection(copier.copy({ device: missing }, { device: there }))).not.toHaveProperty('destination');
  });

  test('the same path twice in a job is opened once', async ({ workshop, client }) => {
    // Twice for writing would be EBUSY: exclusively is the default.
    const loop = await workshop.loop({ bytes: MIB, seed: 'source' });
    const copier = await client({ engine });
    await copier.copy({ device: loop.path, count: 8 }, [
      { device: loop.path, sector: 16 },
      { device: loop.path, sector: 1024 },
    ]);
    const expected = randomBytes('source', MIB);
    expected.copy(expected, 16 * 512, 0, 4096);
    expected.copy(expected, 1024 * 512, 0, 4096);
    await expectFile(loop.path, expected);
    const handle = await open(loop.path, 'r+');
    await copier.copy({ device: handle.fd, sector: 16, count: 8 }, { device: handle, sector: 2040 });
    await handle.close();
    expected.copy(expected, 2040 * 512, 0, 4096);
    await expectFile(loop.path, expected);
  });

  test('a Device opened for the other direction is refused', async ({ workshop, client, device }) => {
    const source = await device(await workshop.file({ bytes: MIB }));
    const destination = await device(await workshop.file({ bytes: MIB }), { access: 'write' });
    const copier = await client({ engine });
    expect((await rejection(copier.copy({ device: destination, count: 1 }, { device: source }))).code).toBe(
      'ERR_KCOPYD_ACCESS',
    );
    const error = await rejection(
      copier.copy({ device: source, count: 1 }, [{ device: destination }, { device: source, sector: 8 }]),
    );
    expect(error).toMatchObject({ code: 'ERR_KCOPYD_ACCESS', destination: 1 });
  });

  test('P33 Device.close refuses new jobs, waits for its own on every client, and frees the device', async ({
    workshop,
    client,
    device,
  }) => {
    const faulty = await workshop.faulty({ kind: 'slow', file: await workshop.file({ bytes: MIB }), writeMs: 20 });
    const loop = await workshop.attach(faulty.path);
    const source = await device(await workshop.file({ bytes: MIB, seed: 'source' }));
    const clients = [await client({ engine, subJobSectors: 64 }), await client({ engine, subJobSectors: 64 })] as const;
    const destination = await Device.open(loop.path, { access: 'write' });
    const order: string[] = [];
    const half = { device: source, count: 1024 };
    const copies = [
      clients[0].copy(half, { device: destination }).then(() => order.push('copied')),
      clients[1].copy(half, { device: destination, sector: 1024 }).then(() => order.push('copied')),
    ];
    const closing = destination.close().then(() => order.push('closed'));
    const error = await rejection(
      clients[0].copy({ device: source, count: 1 }, [{ device: loop.path }, { device: destination }]),
    );
    expect(error).toMatchObject({ code: 'ERR_KCOPYD_DEVICE_CLOSED', path: loop.path, destination: 1 });
    expect(error.message).toMatch('to[1].device is closed');
    await closing;
    await Promise.all(copies);
    expect(order).toEqual(['copied', 'copied', 'closed']);
    // The clients live on, and none of them holds it.
    const again = await Device.open(loop.path, { access: 'write', exclusive: true });
    await again.close();
  });

  test('a file that has grown is known to have grown', async ({ workshop, client, device }) => {
    const source = await workshop.file({ bytes: 1000, seed: 'source' });
    const destination = await device(await workshop.file({ bytes: 0 }), { access: 'read-write' });
    const copier = await client({ engine });
    await copier.copy({ device: source }, { device: destination });
    expect([destination.bytes, destination.sectors]).toEqual([1000, 2]);
    await copier.copy({ device: destination }, { device: destination, sector: 10 });
    expect(destination.bytes).toBe(5120 + 1000);
  });

  test('P5 and P11 a block device that has grown is copied to its new end, and written there', async ({
    workshop,
    client,
    device,
  }) => {
    const [source, destination] = [
      await workshop.loop({ bytes: MIB, seed: 'grown' }),
      await workshop.loop({ bytes: MIB }),
    ];
    const [from, to] = [await device(source.path), await device(destination.path, { access: 'read-write' })];
    const copier = await client({ engine });
    for (const { file, path } of [source, destination]) {
      if (file === source.file) await appendFile(file, randomBytes('grown', MIB, MIB));
      else await truncate(file, 2 * MIB);
      await output('losetup', ['--set-capacity', path]);
    }
    // In this order: nothing has looked at the destination since it has grown.
    expect(await copier.copy({ device: from }, { device: to })).toMatchObject({ bytes: 2 * MIB });
    expect(await copier.copy({ device: from, count: 8 }, { device: to, sector: 4088 })).toMatchObject({ bytes: 4096 });
    const held = await device(await workshop.file({ bytes: 0 }), { access: 'write' });
    await copier.copy({ device: to, count: 4088 }, { device: held });
    await expectFile(held.path, randomBytes('grown', 4088 * 512));
  });

  test('P4 a file on a server that does not answer keeps its job waiting, and not the process', async ({
    workshop,
    client,
    device,
  }) => {
    const faulty = await workshop.faulty({ kind: 'slow', file: await workshop.file({ bytes: MIB, seed: 'server' }) });
    const [from, to] = [
      await device(faulty.path),
      await device(await workshop.file({ bytes: 0 }), { access: 'write' }),
    ];
    const copier = await client({ engine });
    // Should this thread wait for the server, it could not let it go on.
    const server = await readFile(join(dirname(faulty.path), '..', 'pid'), 'utf8');
    const rescue = spawn('sh', ['-c', `sleep 5; kill -CONT ${server}`], { stdio: 'ignore' });
    faulty.stick();
    // What the kernel knows of a file is good for a second.
    await setTimeout(1500);
    const begunMs = performance.now();
    const { notify, called } = completion();
    copier.submitCopy({ device: from, sector: 8, count: 16 }, [{ device: to }], 0, notify);
    const closing = from.close();
    const tookMs = performance.now() - begunMs;
    faulty.resume();
    expect((await called).slice(0, 2)).toEqual([0, 0]);
    await closing;
    rescue.kill();
    expect(tookMs).toBeLessThan(1000);
    await expectFile(to.path, randomBytes('server', 16 * 512, 8 * 512));
  });

  test('P28 a file that kcopyd writes is locked: another job gets EBUSY', async ({ workshop, client, device }) => {
    const path = await workshop.file({ bytes: MIB });
    const alias = workshop.path();
    await symlink(path, alias);
    await device(path, { access: 'write' });
    const copier = await client({ engine });
    const source = await workshop.file({ bytes: 512 });
    expect(await rejection(copier.copy({ device: source }, { device: path }))).toMatchObject({ code: 'EBUSY', path });
    expect(await rejection(Device.open(alias, { access: 'write' }))).toMatchObject({ code: 'EBUSY', errno: -16 });
  });

  test('a device outlives the client that used it', async ({ workshop, device }) => {
    const source = await device(await workshop.file({ bytes: MIB, seed: 'source' }));
    const destination = await device(await workshop.file({ bytes: 0 }), { access: 'write' });
    for (let round = 0; round < 2; round++) {
      const copier = await KcopydClient.create({ engine });
      await copier.copy({ device: source }, { device: destination });
      await copier.close();
    }
    const descriptor = openSync(source.path, 'r');
    expect(descriptorsOn(source.path)).toBeGreaterThan(1);
    await (await open(`/proc/self/fd/${descriptor}`)).close();
  });
});
