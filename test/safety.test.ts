// What others can see of kcopyd while it works, and what it keeps from them: locks, descriptors, memory.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Device, KcopydError } from 'kcopyd';
import { expect } from 'vitest';
import { run } from './support/command.js';
import { expectBytes, inOwnProcess, MIB, onEachEngine, rejection, SECTOR, test } from './support/kcopyd.js';
import { programs } from './support/machine.js';
import { randomBytes } from './support/random.js';

const REFUSE = fileURLToPath(new URL('support/refuse.py', import.meta.url));
const O_APPEND = 0o2000;
const O_DIRECT = 0o40000;

/** What /proc tells of each descriptor of this process on a path. */
function descriptionsOf(path: string): { flags: number; locks: string[] }[] {
  const found: { flags: number; locks: string[] }[] = [];
  for (const number of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${number}`) !== path) continue;
      const info = readFileSync(`/proc/self/fdinfo/${number}`, 'utf8');
      const flags = Number.parseInt(/flags:\s+(\d+)/.exec(info)?.[1] ?? '', 8);
      found.push({
        flags,
        locks: [...info.matchAll(/lock:.*?(FLOCK|OFDLCK)\s+ADVISORY\s+WRITE/g)].map((lock) => lock[1]!),
      });
    } catch {
      // The descriptor of the listing itself.
    }
  }
  return found;
}

test('P28 every description of a file that is written through holds a lock, and gives it up with the device', async ({
  workshop,
  skip,
}) => {
  const flock = programs('flock');
  if (!flock.available) skip(flock.reason);
  const path = await workshop.file({ bytes: MIB });
  const locked = async (): Promise<boolean> => (await run('flock', ['--nonblock', path, 'true'])).code !== 0;
  const device = await Device.open(path, { access: 'write' });
  const descriptions = descriptionsOf(path);
  expect(descriptions.length).toBeGreaterThan(0);
  for (const { locks } of descriptions) expect(locks.length).toBeGreaterThan(0);
  expect(descriptions.some(({ flags }) => (flags & O_DIRECT) !== 0)).toBe(device.direct);
  expect(await locked()).toBe(true);
  expect((await rejection(Device.open(path, { access: 'write' }))).code).toBe('EBUSY');
  await device.close();
  expect(descriptionsOf(path)).toEqual([]);
  expect(await locked()).toBe(false);
  // One that is only read is nobody's alone.
  const [one, two] = [await Device.open(path), await Device.open(path)];
  expect(await locked()).toBe(false);
  await Promise.all([one.close(), two.close()]);
});

onEachEngine((engine) => {
  test('P28 a killed process holds its device until its last request has landed', async ({ workshop }) => {
    const writeMs = 1500;
    const file = await workshop.file({ bytes: MIB });
    const slow = await workshop.faulty({ kind: 'slow', file, writeMs });
    const disk = await workshop.attach(slow.path);
    const args = { engine, source: await workshop.file({ bytes: MIB, seed: 'source' }), destination: disk.path };
    const script = `
      import { readFileSync } from 'node:fs';
      import { KcopydClient } from 'kcopyd';
      const args = ${JSON.stringify(args)};
      const client = await KcopydClient.create({ engine: args.engine });
      client.copy({ device: args.source, count: 8 }, { device: args.destination });
      const inflight = '/sys/class/block/' + args.destination.slice(5) + '/inflight';
      const look = () => (/[1-9]/.test(readFileSync(inflight, 'utf8')) ? console.log('writing') : setImmediate(look));
      look();`;
    const cwd = new URL('..', import.meta.url).pathname;
    const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      cwd,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(child, 'exit');
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    const open = (): Promise<Device | string> => {
      return Device.open(disk.path, { access: 'write' }).catch((error: KcopydError) => error.code);
    };
    expect(await open()).toBe('EBUSY');
    await exited;
    // A ring may be released a little after its process is gone.
    const deadline = performance.now() + 10 * writeMs;
    let device = await open();
    while (device === 'EBUSY' && performance.now() < deadline) device = await open();
    expect(device).toBeInstanceOf(Device);
    // Whoever can open it knows that nothing old lands any more: it is there already.
    expectBytes((await readFile(file)).subarray(0, 8 * SECTOR), randomBytes('source', 8 * SECTOR), 'what landed');
    await (device as Device).close();
  });

  test("P29 a caller's descriptor is used with the flags that it has", async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const slow = await workshop.faulty({ kind: 'slow', file: await workshop.file({ bytes: MIB }), writeMs: 100 });
    const copier = await client({ engine });
    for (const flags of ['r+', 'w+']) {
      const handle = await open(slow.path, flags);
      const before = descriptionsOf(slow.path);
      let during: ReturnType<typeof descriptionsOf> = [];
      const onProgress = (): void => {
        if (during.length < 2) during = descriptionsOf(slow.path);
      };
      await copier.copy({ device: source, count: 64 }, { device: handle }, { onProgress });
      // The caller's own and our duplicate: the same flags, and no lock on either.
      expect(during).toEqual([before[0], before[0]]);
      expect(before[0]).toEqual({ flags: before[0]!.flags & ~O_DIRECT & ~O_APPEND, locks: [] });
      expect(descriptionsOf(slow.path)).toEqual(before);
      await handle.close();
    }
  });

  test('P29 O_APPEND is refused, for a FileHandle and for a number', async ({ workshop, client }) => {
    const path = await workshop.file({ bytes: MIB, seed: 'before' });
    const copier = await client({ engine });
    const handle = await open(path, 'a+');
    for (const device of [handle, handle.fd]) {
      expect((await rejection(copier.zero({ device, count: 8 }))).code).toBe('ERR_KCOPYD_ACCESS');
    }
    await handle.close();
    expectBytes(await readFile(path), randomBytes('before', MIB), 'the file');
  });

  test('P31 the pool is not dumped and not inherited by fork', async ({ client }) => {
    // A size that nothing else has.
    const pages = 3333;
    const pool = (): string[] => {
      const mappings = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
      return mappings.filter((mapping) => new RegExp(`^Size: +${pages * 4} kB$`, 'm').test(mapping));
    };
    expect(pool()).toEqual([]);
    const copier = await client({ engine, pages });
    const [mapping, ...others] = pool();
    expect(others).toEqual([]);
    expect(
      /^VmFlags:(.*)$/m
        .exec(mapping ?? '')?.[1]
        ?.trim()
        .split(' '),
    ).toEqual(expect.arrayContaining(['dd', 'dc']));
    // All of it is there before it is needed.
    expect(mapping).toMatch(new RegExp(`^Rss: +${pages * 4} kB$`, 'm'));
    await copier.close();
    expect(pool()).toEqual([]);
  });

  test('P31 the pool is zeroed when the client closes', async ({ workshop, skip }) => {
    const python = programs('python3');
    if (!python.available) skip(python.reason);
    const pages = 3333;
    const script = `
      import { readFileSync } from 'node:fs';
      import { open } from 'node:fs/promises';
      const client = await KcopydClient.create({ engine: args.engine, pages: args.pages });
      await client.copy({ device: args.source }, { device: args.destination });
      const place = () => {
        const maps = readFileSync('/proc/self/maps', 'utf8').matchAll(/^([0-9a-f]+)-([0-9a-f]+) /gm);
        const bounds = [...maps].map(([, first, end]) => [parseInt(first, 16), parseInt(end, 16)]);
        return bounds.find(([first, end]) => end - first === args.pages * 4096)[0];
      };
      const memory = await open('/proc/self/mem');
      const used = async (at) => {
        const { buffer } = await memory.read(Buffer.alloc(args.pages * 4096), 0, args.pages * 4096, at);
        return buffer.reduce((count, byte) => count + (byte === 0 ? 0 : 1), 0);
      };
      const at = place();
      const before = await used(at);
      await client.close();
      console.log(JSON.stringify({ before, same: place() === at, after: await used(at) }));`;
    const args = {
      engine,
      pages,
      source: await workshop.file({ bytes: 8 * MIB, seed: 'secret' }),
      destination: await workshop.file({ bytes: 0 }),
    };
    // The unmapping of what has the pool's size is answered with success and not carried out, so that one can look.
    const munmap = process.arch === 'arm64' ? 215 : 11;
    const wrap = ['python3', REFUSE, 'OK', `${munmap}:1=${pages * 4096}`];
    const ended = await inOwnProcess(script, args, { wrap });
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    const { before, same, after } = JSON.parse(ended.stdout) as { before: number; same: boolean; after: number };
    expect(before).toBeGreaterThan(MIB / 2);
    expect({ same, after }).toEqual({ same: true, after: 0 });
  });

  test('P33 what was opened for a job is closed before it settles: success, failure, refusal and abort', async ({
    workshop,
    client,
  }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const slow = await workshop.faulty({ kind: 'slow', file: await workshop.file({ bytes: MIB }), writeMs: 20 });
    const bad = await workshop.faulty({ kind: 'write-errors', file: await workshop.file({ bytes: MIB }) });
    const [slowDisk, badDisk] = [await workshop.attach(slow.path), await workshop.attach(bad.path)];
    const copier = await client({ engine, subJobSectors: 64 });
    const from = { device: source };
    const controller = new AbortController();
    const jobs: (() => Promise<unknown>)[] = [
      () => copier.copy({ ...from, count: 128 }, { device: slowDisk.path }),
      () => copier.zero({ device: slowDisk.path, count: 128 }, { flush: true }),
      () => copier.copy(from, { device: badDisk.path }),
      () => copier.copy(from, [{ device: slowDisk.path }, { device: badDisk.path, sector: 9999 }]),
      () => {
        const onProgress = (): void => controller.abort();
        return copier.copy(from, { device: slowDisk.path }, { signal: controller.signal, onProgress });
      },
    ];
    for (const job of jobs) {
      await job().catch((error: unknown) => expect(error).toBeInstanceOf(KcopydError));
      for (const path of [source, slowDisk.path, badDisk.path]) expect(descriptionsOf(path)).toEqual([]);
      // A slot of the ring's table would hold it as a descriptor does.
      for (const { path } of [slowDisk, badDisk]) await (await Device.open(path, { access: 'write' })).close();
    }
  });
});
