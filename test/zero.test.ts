// Zeroes: by the device itself where it can, else written; which, the counters tell. Regions without a count are refused.
import { readFile, stat } from 'node:fs/promises';
import { KcopydClient, Throttle } from 'kcopyd';
import { expect } from 'vitest';
import { output } from './support/command.js';
import {
  completion,
  expectBytes,
  expectFile,
  MIB,
  onEachEngine,
  rejection,
  SECTOR,
  sectorsMoved,
  test,
  thrown,
} from './support/kcopyd.js';
import { hasExt4 } from './support/machine.js';
import { randomBytes } from './support/random.js';
import type { Workshop } from './support/workshop.js';

/** The seed's bytes with zeros in a range of sectors. */
function zeroed(bytes: number, sector: number, count: number): Buffer {
  const expected = randomBytes('before', bytes);
  expected.fill(0, sector * SECTOR, (sector + count) * SECTOR);
  return expected;
}

async function ext4(workshop: Workshop): Promise<string> {
  const device = await workshop.loop({ bytes: 64 * MIB });
  await output('mkfs.ext4', ['-q', '-E', 'nodiscard', device.path]);
  return workshop.mount(device.path);
}

onEachEngine((engine) => {
  test('P5 a loop device makes zeroes itself, and nothing outside of the region changes', async ({
    workshop,
    client,
  }) => {
    const disk = await workshop.loop({ bytes: 8 * MIB, seed: 'before' });
    const copier = await client({ engine });
    const before = sectorsMoved(disk.path);
    const outcome = await copier.zero({ device: disk.path, sector: 1000, count: 9001n });
    expect(outcome).toMatchObject({ sectors: 9001, bytes: 9001 * SECTOR, readErr: 0, writeErr: 0, failures: [] });
    expect(outcome.destinations).toEqual([{ sectors: 9001, ok: true }]);
    expect(sectorsMoved(disk.path).read, 'nothing is read').toBe(before.read);
    expectBytes(await readFile(disk.path), zeroed(8 * MIB, 1000, 9001), 'the device');
    const { zero, jobs, pages } = copier.stats;
    expect({ zero, jobs }).toEqual({ zero: { offloadedBytes: 9001 * SECTOR, writtenBytes: 0 }, jobs: 1 });
    expect(pages.free).toBe(pages.total);
  });

  test('P5 ext4 makes zeroes itself, where a file ends too', async ({ workshop, client, skip }) => {
    const facility = await hasExt4();
    if (!facility.available) skip(facility.reason);
    const directory = await ext4(workshop);
    const file = await workshop.file({ bytes: MIB, seed: 'before', path: `${directory}/file` });
    const copier = await client({ engine });
    await copier.zero({ device: file, sector: 3, count: 5 });
    await expectFile(file, zeroed(MIB, 3, 5));
    // Past the end: the file grows.
    await copier.zero({ device: file, sector: 2040, count: 100 });
    expect((await stat(file)).size).toBe(2140 * SECTOR);
    expect((await readFile(file)).subarray(2040 * SECTOR).every((byte) => byte === 0)).toBe(true);
    expect(copier.stats.zero).toEqual({ offloadedBytes: 105 * SECTOR, writtenBytes: 0 });
  });

  test('P5 where zeroing is refused zeros are written, destination by destination', async ({ workshop, client }) => {
    // tmpfs has no FALLOC_FL_ZERO_RANGE.
    const file = await workshop.file({
      bytes: 4 * MIB,
      seed: 'before',
      path: `${await workshop.tmpfs(16 * MIB)}/file`,
    });
    const disk = await workshop.loop({ bytes: 4 * MIB, seed: 'before' });
    const copier = await client({ engine });
    for (const round of [1, 2]) {
      const region = { sector: 17, count: 4001 };
      const { destinations } = await copier.zero([
        { device: file, ...region },
        { device: disk.path, ...region },
      ]);
      expect(destinations).toEqual([1, 2].map(() => ({ sectors: 4001, ok: true })));
      const bytes = round * 4001 * SECTOR;
      expect(copier.stats.zero).toEqual({ offloadedBytes: bytes, writtenBytes: bytes });
    }
    await expectFile(file, zeroed(4 * MIB, 17, 4001));
    expectBytes(await readFile(disk.path), zeroed(4 * MIB, 17, 4001), 'the device');
  });

  test('P17 a failure is named zero, with its destination and place', async ({ workshop, client }) => {
    const good = await workshop.loop({ bytes: MIB, seed: 'before' });
    const faulty = await workshop.faulty({
      kind: 'bad-writes',
      file: await workshop.file({ bytes: MIB, seed: 'before' }),
      bad: { offset: 512 * SECTOR, length: 8 * SECTOR },
    });
    const copier = await client({ engine, subJobSectors: 64 });
    const to = [good.path, faulty.path].map((device) => ({ device, count: 2048 }));
    const error = await rejection(copier.zero(to, { ignoreErrors: true }));
    expect(error).toMatchObject({ code: 'EIO', errno: -5, destination: 1, path: faulty.path });
    const { outcome } = error;
    expect(outcome).toMatchObject({ readErr: 0, writeErr: 0b10 });
    expect(outcome?.failures).toEqual([{ op: 'zero', destination: 1, sector: 512, count: 8, code: 'EIO', errno: 5 }]);
    expect(outcome?.destinations).toEqual([
      { sectors: 2048, ok: true },
      { sectors: 512, ok: false },
    ]);
    faulty.heal();
    const held = await readFile(faulty.path);
    const expected = zeroed(MIB, 0, 2048);
    randomBytes('before', MIB).copy(expected, 512 * SECTOR, 512 * SECTOR, 520 * SECTOR);
    expectBytes(held, expected, 'the faulty device');
  });

  test('P17 no space is the failure of the destination that has none', async ({ workshop, client }) => {
    const small = await workshop.file({ bytes: 0, path: `${await workshop.tmpfs(MIB)}/small` });
    const copier = await client({ engine });
    const { code, outcome } = await rejection(copier.zero({ device: small, count: 4 * 2048 }));
    expect(code).toBe('ENOSPC');
    expect(outcome).toMatchObject({ readErr: 0, writeErr: 1, destinations: [{ ok: false }] });
    expect(outcome?.failures[0]).toMatchObject({ op: 'zero', code: 'ENOSPC', destination: 0 });
  });

  test('P27 an abort of zeroing settles with the ranges in flight, offloaded or written', async ({
    workshop,
    client,
  }) => {
    const directory = await workshop.tmpfs(80 * MIB);
    const file = await workshop.file({ bytes: 64 * MIB, seed: 'before', path: `${directory}/file` });
    const disk = await workshop.loop({ bytes: 64 * MIB });
    // At this rate each of them would take a minute.
    const copier = await client({ engine, throttle: new Throttle({ bytesPerSecond: MIB }) });
    for (const device of [file, disk.path]) {
      const controller = new AbortController();
      let onProgress!: () => void;
      const seen = new Promise<void>((resolve) => {
        onProgress = resolve;
      });
      const region = { device, count: (64 * MIB) / SECTOR };
      const zeroing = rejection(copier.zero(region, { signal: controller.signal, onProgress }));
      await seen;
      const begin = performance.now();
      controller.abort();
      const { name, outcome } = await zeroing;
      expect(performance.now() - begin).toBeLessThan(1000);
      expect(name).toBe('AbortError');
      expect(outcome).toMatchObject({ readErr: 125, writeErr: 0 });
      expect(outcome?.sectors).toBeLessThan(region.count / 8);
    }
    const { offloadedBytes, writtenBytes } = copier.stats.zero;
    expect(Math.min(offloadedBytes, writtenBytes), 'both ways were taken').toBeGreaterThan(0);
    // What was not begun is as it was.
    const held = await readFile(file);
    expectBytes(held.subarray(32 * MIB), randomBytes('before', 64 * MIB).subarray(32 * MIB), 'the rest of the file');
  });

  test('P18 zeroes are flushed when that is asked', async ({ workshop, client }) => {
    const faulty = await workshop.faulty({ kind: 'flush-errors', file: await workshop.file({ bytes: MIB }) });
    const copier = await client({ engine });
    expect((await copier.zero({ device: faulty.path, count: 8 })).sectors).toBe(8);
    const { code, syscall, outcome } = await rejection(copier.zero({ device: faulty.path, count: 8 }, { flush: true }));
    expect([code, syscall, outcome?.failures[0]?.op]).toEqual(['EIO', 'fdatasync', 'flush']);
  });

  test('P1 submitZero has the shape of submitCopy', async ({ workshop, client, device }) => {
    const file = await device(await workshop.file({ bytes: MIB, seed: 'before' }), { access: 'write' });
    const copier = await client({ engine });
    const { notify, called } = completion();
    const context = {};
    expect(copier.submitZero([{ device: file, sector: 8, count: 16 }], 0, notify, context)).toBeUndefined();
    const [readErr, writeErr, handed] = await called;
    expect([readErr, writeErr]).toEqual([0, 0]);
    expect(handed).toBe(context);
    await expectFile(file.path, zeroed(MIB, 8, 16));
    await file.close();
    const refused = thrown(() => copier.submitZero([{ device: file, count: 16 }], 0, notify));
    expect(refused.code).toBe('ERR_KCOPYD_DEVICE_CLOSED');
  });
});

test('P30 bad arguments of zero and submitZero are refused by name, and nothing happens', async ({
  workshop,
  client,
  device,
}) => {
  const path = await workshop.file({ bytes: MIB, seed: 'before' });
  const opened = await device(path, { access: 'write' });
  const copier = await client();
  type Anything = (...args: unknown[]) => Promise<unknown>;
  const zero = async (...args: unknown[]): Promise<string> => {
    const { code, message } = await rejection((copier.zero.bind(copier) as Anything)(...args));
    return `${code} ${message}`;
  };
  const submitZero = (...args: unknown[]): string => {
    const { code, message } = thrown(() => (copier.submitZero.bind(copier) as (...args: unknown[]) => void)(...args));
    return `${code} ${message}`;
  };
  const [type, range] = ['ERR_INVALID_ARG_TYPE', 'ERR_OUT_OF_RANGE'];
  expect(await zero()).toMatch(`${type} to must be a region`);
  expect(await zero(path)).toMatch(`${type} to must be a region`);
  expect(await zero([])).toMatch(`${range} to must be an array of 1 to 32 regions`);
  expect(await zero({ count: 8 })).toMatch(`${type} to.device must be a Device`);
  expect(await zero({ device: path })).toBe(
    `${type} to.count must be the number of sectors to make zero, which has no default. Received undefined`,
  );
  const regions = [
    { device: path, count: 8 },
    { device: path, sector: 8 },
  ];
  expect(await zero(regions)).toMatch(`${type} to[1].count must be the number of sectors`);
  regions[1]!.count = 9;
  expect(await zero(regions)).toMatch(`${range} to[1].count must be the same as to[0].count, 8. Received number 9`);
  for (const count of [-1, 0.5, Number.NaN, 2 ** 53, -1n, 2n ** 53n])
    expect(await zero({ device: path, count })).toMatch(`${range} to.count must be a whole number`);
  for (const count of ['8', null, {}])
    expect(await zero({ device: path, count })).toMatch(`${type} to.count must be a number or a bigint`);
  expect(await zero({ device: path, counts: 8 })).toBe(`${type} to.counts is not known. Did you mean to.count?`);
  expect(await zero({ device: path, count: 8 }, { flsh: true })).toMatch('Did you mean options.flush?');
  expect(await zero({ device: path, count: 8 }, null)).toMatch(`${type} options must be an object`);
  const overlapping = [0, 4].map((sector) => ({ device: opened, sector, count: 8 }));
  expect(await zero(overlapping)).toMatch('ERR_KCOPYD_OVERLAP');
  const never = (): void => expect.unreachable('notified');
  const good = [{ device: opened, count: 8 }];
  expect(submitZero(good[0], 0, never)).toMatch(`${type} to must be an array`);
  expect(submitZero([{ device: path, count: 8 }], 0, never)).toMatch(`${type} to[0].device must be a Device`);
  expect(submitZero([{ device: opened }], 0, never)).toMatch(`${type} to[0].count must be the number of sectors`);
  for (const flags of [1, -1, 8, 2.5, 256]) expect(submitZero(good, flags, never)).toMatch(`${range} flags must be`);
  expect(submitZero(good, '0', never)).toMatch(`${type} flags must be`);
  expect(submitZero(good, 0, null)).toMatch(`${type} notify must be a function`);
  expect(copier.stats).toMatchObject({ jobs: 0, bytes: 0 });
  await expectFile(path, randomBytes('before', MIB));
});

test('P33 a path is open for the job alone, for zeroes too', async ({ workshop }) => {
  const path = await workshop.file({ bytes: MIB, seed: 'before' });
  await using copier = await KcopydClient.create();
  await copier.zero({ device: path, count: 8 });
  // It was locked while it was open: two in a row find it free.
  await copier.zero({ device: path, count: 8 });
  const missing = await rejection(copier.zero({ device: workshop.path(), count: 8 }));
  expect(missing).toMatchObject({ code: 'ENOENT', syscall: 'open', destination: 0 });
});
