// What a copy does to bytes: everything of the source arrives, in every destination, and nothing else changes.
import { readFile, symlink } from 'node:fs/promises';
import { expect } from 'vitest';
import { output } from './support/command.js';
import {
  expectFile,
  inOwnProcess,
  MIB,
  onEachEngine,
  rejection,
  SECTOR,
  sectorsMoved,
  test,
} from './support/kcopyd.js';
import { randomBytes } from './support/random.js';

/** A sub-job of 16 sectors: 8 KiB, two pages. */
const SUB_JOB = 16;

onEachEngine((engine) => {
  test.for([0, 1, SUB_JOB - 1, SUB_JOB, SUB_JOB + 1, 10 * SUB_JOB, 100 * SUB_JOB + 3])(
    'P5 every byte of a file of %i sectors arrives in three files',
    async (sectors, { workshop, client }) => {
      const source = await workshop.file({ bytes: sectors * SECTOR, seed: 'source' });
      const to = await Promise.all([1, 2, 3].map(() => workshop.file({ bytes: 0 })));
      const copier = await client({ engine, subJobSectors: SUB_JOB, pages: 64 });
      const outcome = await copier.copy(
        { device: source },
        to.map((device) => ({ device })),
      );
      for (const path of to) await expectFile(path, await readFile(source));
      expect(outcome).toMatchObject({ sectors, bytes: sectors * SECTOR, readErr: 0, writeErr: 0, failures: [] });
      expect(outcome.destinations).toEqual(to.map(() => ({ sectors, ok: true })));
      expect(outcome.durationMs).toBeGreaterThanOrEqual(0);
    },
  );

  test.for([512, 4096] as const)(
    'P5 every byte of a block device arrives in two, all with blocks of %i bytes',
    async (sectorSize, { workshop, client }) => {
      const bytes = 3 * MIB + 4096;
      const source = await workshop.loop({ bytes, seed: 'source', sectorSize });
      const to = [
        await workshop.loop({ bytes: 4 * MIB, sectorSize }),
        await workshop.loop({ bytes: 4 * MIB, sectorSize }),
      ];
      const copier = await client({ engine });
      const outcome = await copier.copy(
        { device: source.path },
        to.map(({ path }) => ({ device: path })),
        { flush: true },
      );
      expect(outcome.bytes).toBe(bytes);
      for (const { path } of to) {
        await expectFile(path, Buffer.concat([randomBytes('source', bytes), Buffer.alloc(4 * MIB - bytes)]));
      }
    },
  );

  test.for([1, 511, 512, 513, 100_001])(
    'P5 a file that ends at byte %i arrives exactly',
    async (bytes, { workshop, client }) => {
      const source = await workshop.file({ bytes, seed: 'odd' });
      const destination = await workshop.file({ bytes: 0 });
      const copier = await client({ engine, subJobSectors: SUB_JOB });
      const outcome = await copier.copy({ device: source }, { device: destination });
      await expectFile(destination, randomBytes('odd', bytes));
      expect(outcome).toMatchObject({ bytes, sectors: Math.ceil(bytes / SECTOR) });
    },
  );

  test('P6 nothing outside the destination regions changes', async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const before = randomBytes('before', MIB);
    const file = await workshop.file({ bytes: MIB, seed: 'before' });
    const loop = await workshop.loop({ bytes: MIB, seed: 'before' });
    const copier = await client({ engine, subJobSectors: SUB_JOB });
    await copier.copy({ device: source, sector: 7, count: 333 }, [
      { device: file, sector: 101 },
      { device: loop.path, sector: 1001 },
    ]);
    const region = randomBytes('source', MIB).subarray(7 * SECTOR, 340 * SECTOR);
    for (const [path, first] of [
      [file, 101],
      [loop.path, 1001],
    ] as const) {
      const expected = Buffer.from(before);
      region.copy(expected, first * SECTOR);
      await expectFile(path, expected);
    }
  });

  test('P6 a file that ends within a block is padded with zeros to the end of that block of a device, and no further', async ({
    workshop,
    client,
  }) => {
    const source = await workshop.file({ bytes: 5000, seed: 'source' });
    const loop = await workshop.loop({ bytes: MIB, seed: 'before', sectorSize: 4096 });
    const copier = await client({ engine });
    const outcome = await copier.copy({ device: source }, { device: loop.path, sector: 8 });
    expect(outcome).toMatchObject({ bytes: 5000, sectors: 10 });
    const expected = randomBytes('before', MIB).fill(0, 4096, 3 * 4096);
    randomBytes('source', 5000).copy(expected, 4096);
    await expectFile(loop.path, expected);
  });

  test('P7 a source is read once, for 32 destinations too', async ({ workshop, client }) => {
    const source = await workshop.loop({ bytes: MIB, seed: 'source' });
    const to = await Promise.all(Array.from({ length: 32 }, () => workshop.file({ bytes: 0 })));
    const copier = await client({ engine });
    const before = sectorsMoved(source.path).read;
    await copier.copy(
      { device: source.path },
      to.map((device) => ({ device })),
    );
    expect(sectorsMoved(source.path).read - before).toBe(MIB / SECTOR);
    for (const path of to) await expectFile(path, randomBytes('source', MIB));
  });

  test('P8 no stale byte after a failed read', async ({ workshop, client }) => {
    const bad = { offset: 64 * SECTOR, length: 8 * SECTOR };
    const file = await workshop.file({ bytes: MIB, seed: 'source' });
    const faulty = await workshop.faulty({ kind: 'bad-reads', file, bytes: MIB, bad: [bad] });
    const source = await workshop.attach(faulty.path, { readOnly: true });
    const destination = await workshop.file({ bytes: MIB, seed: 'before' });
    const copier = await client({ engine, subJobSectors: SUB_JOB });
    const { outcome } = await rejection(copier.copy({ device: source.path }, { device: destination }));
    expect(outcome?.readErr).toBe(5);
    expect(outcome?.writeErr).toBe(0);
    const after = await readFile(destination);
    const [old, fresh] = [randomBytes('before', MIB), randomBytes('source', MIB)];
    // Each sector is the source's or untouched; of the piece that could not be read, untouched.
    for (let at = 0; at < MIB; at += SECTOR) {
      const sector = after.subarray(at, at + SECTOR);
      const copied = sector.equals(fresh.subarray(at, at + SECTOR));
      expect(copied || sector.equals(old.subarray(at, at + SECTOR)), `sector ${at / SECTOR}`).toBe(true);
      if (at >= bad.offset && at < bad.offset + bad.length)
        expect(copied, `unreadable sector ${at / SECTOR}`).toBe(false);
      if (at < outcome!.bytes) expect(copied, `sector ${at / SECTOR} of the prefix`).toBe(true);
    }
  });

  test('P8 with ignoreErrors the unread part arrives as zeros and is listed', async ({ workshop, client }) => {
    const bad = { offset: 64 * SECTOR, length: 8 * SECTOR };
    const file = await workshop.file({ bytes: MIB, seed: 'source' });
    // Not a loop device on it: there the kernel merges neighbouring reads, and a bad place fails all of them.
    const source = await workshop.faulty({ kind: 'bad-reads', file, bytes: MIB, bad: [bad] });
    const destination = await workshop.file({ bytes: MIB, seed: 'before' });
    const copier = await client({ engine, subJobSectors: SUB_JOB });
    const error = await rejection(
      copier.copy({ device: source.path }, { device: destination }, { ignoreErrors: true }),
    );
    expect(error).toMatchObject({ code: 'EIO', errno: -5, syscall: 'read', path: source.path });
    const outcome = error.outcome!;
    const expected = randomBytes('source', MIB);
    for (const { op, sector, count } of outcome.failures) {
      expect(op).toBe('read');
      expected.fill(0, sector * SECTOR, (sector + count) * SECTOR);
    }
    await expectFile(destination, expected);
    const listed = (sector: number): boolean => {
      return outcome.failures.some((failure) => sector >= failure.sector && sector < failure.sector + failure.count);
    };
    for (let sector = 64; sector < 72; sector++) expect(listed(sector), `sector ${sector}`).toBe(true);
    // Not the whole file is given up for one bad place: at most the sub-job around it.
    expect([listed(63 - SUB_JOB), listed(72 + SUB_JOB)]).toEqual([false, false]);
    expect(outcome.sectors).toBeLessThanOrEqual(64);
    expect(outcome.destinations).toEqual([{ sectors: outcome.sectors, ok: false }]);
  });

  test('P9 a region of a file begins and ends on any sector', async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const destination = await workshop.file({ bytes: MIB, seed: 'before' });
    const copier = await client({ engine, subJobSectors: SUB_JOB });
    const expected = randomBytes('before', MIB);
    for (const [from, to, count] of [
      [1, 2, 3],
      [9, 17, 64],
      [100, 103, 205],
      [800, 1024, 1],
    ] as const) {
      await copier.copy({ device: source, sector: from, count }, { device: destination, sector: to });
      randomBytes('source', MIB).copy(expected, to * SECTOR, from * SECTOR, (from + count) * SECTOR);
    }
    await expectFile(destination, expected);
  });

  test('P9 a region of a block device is a multiple of its logical block', async ({ workshop, client }) => {
    const big = await workshop.loop({ bytes: MIB, seed: 'before', sectorSize: 4096 });
    const file = await workshop.file({ bytes: MIB, seed: 'source' });
    const copier = await client({ engine });
    // One after the other: for two jobs at a time a device opened by path is EBUSY.
    const misaligned = [
      () => copier.copy({ device: file, count: 8 }, { device: big.path, sector: 1 }),
      () => copier.copy({ device: file, count: 9 }, { device: big.path }),
      () => copier.copy({ device: big.path, sector: 4, count: 8 }, { device: file }),
      () => copier.copy({ device: big.path, count: 12 }, { device: file }),
    ];
    for (const copy of misaligned) expect((await rejection(copy())).code).toBe('ERR_KCOPYD_ALIGNMENT');
    await expectFile(big.path, randomBytes('before', MIB));
    await expectFile(file, randomBytes('source', MIB));
  });

  test('P10 overlapping regions of one device are refused before any I/O', async ({ workshop, client, device }) => {
    const path = await workshop.file({ bytes: MIB, seed: 'before' });
    const other = await workshop.file({ bytes: MIB });
    const alias = workshop.path();
    await symlink(path, alias);
    const opened = await device(path, { access: 'read-write' });
    const copier = await client({ engine });
    const overlapping = [
      () => copier.copy({ device: opened, count: 10 }, { device: opened, sector: 9 }),
      () => copier.copy({ device: opened, sector: 9, count: 10 }, { device: opened }),
      () => copier.copy({ device: other, count: 10 }, [{ device: opened }, { device: opened, sector: 9 }]),
      () => copier.copy({ device: alias, count: 10 }, { device: opened, sector: 5 }),
    ];
    for (const copy of overlapping) expect((await rejection(copy())).code).toBe('ERR_KCOPYD_OVERLAP');
    await expectFile(path, randomBytes('before', MIB));
  });

  test('P10 regions of one file that only touch are no overlap, also by path', async ({ workshop, client }) => {
    const path = await workshop.file({ bytes: MIB, seed: 'source' });
    const copier = await client({ engine, subJobSectors: SUB_JOB });
    await copier.copy({ device: path, count: 1024 }, { device: path, sector: 1024 });
    const half = randomBytes('source', MIB / 2);
    await expectFile(path, Buffer.concat([half, half]));
    expect((await rejection(copier.copy({ device: path, count: 1024 }, { device: path, sector: 1023 }))).code).toBe(
      'ERR_KCOPYD_OVERLAP',
    );
  });

  test('P10 a device under another name, and a partition against its disk, are the same device', async ({
    workshop,
    client,
  }) => {
    const disk = await workshop.loop({ bytes: 8 * MIB, seed: 'before' });
    const name = disk.path.replace('/dev/', '');
    const numbers = (await output('cat', [`/sys/class/block/${name}/dev`])).split(':');
    const alias = workshop.path();
    const copier = await client({ engine });
    try {
      await output('mknod', [alias, 'b', ...numbers]);
      await output('addpart', [disk.path, '1', '2048', '4096']);
      const partition = `/dev/${name}p1`;
      const overlapping = [
        () => copier.copy({ device: alias, count: 8 }, { device: disk.path }),
        () => copier.copy({ device: disk.path, sector: 2048, count: 8 }, { device: partition }),
        () => copier.copy({ device: partition, sector: 8, count: 8 }, { device: disk.path, sector: 2056 }),
      ];
      for (const copy of overlapping) expect((await rejection(copy())).code).toBe('ERR_KCOPYD_OVERLAP');
      await expectFile(disk.path, randomBytes('before', 8 * MIB));
      await copier.copy({ device: partition, count: 8 }, { device: disk.path, sector: 8 });
    } finally {
      await output('delpart', [disk.path, '1']);
    }
    const expected = randomBytes('before', 8 * MIB);
    expected.copy(expected, 4096, MIB, MIB + 4096);
    await expectFile(disk.path, expected);
  });

  test('P10 a process that has no descriptors left does not take a partition for a disk', async ({ workshop }) => {
    const disk = await workshop.loop({ bytes: 8 * MIB, seed: 'before' });
    try {
      await output('addpart', [disk.path, '1', '2048', '4096']);
      const script = `
        import { closeSync, openSync } from 'node:fs';
        const client = await KcopydClient.create({ engine: args.engine });
        const whole = await Device.open(args.disk);
        const seen = [];
        for (let free = 0; free < 10; free++) {
          const held = [];
          try { for (;;) held.push(openSync('/dev/null')); } catch {}
          for (const descriptor of held.splice(0, free)) closeSync(descriptor);
          const opened = await Device.open(args.disk + 'p1', { access: 'write' }).catch(({ code }) => code);
          for (const descriptor of held) closeSync(descriptor);
          if (typeof opened === 'string') { seen.push(opened); continue; }
          const copying = client.copy({ device: whole, sector: 2048, count: 8 }, { device: opened });
          seen.push(await copying.then(() => 'copied', ({ code }) => code));
          await opened.close();
        }
        console.log(seen.join(' '));
        await Promise.all([whole.close(), client.close()]);`;
      const wrap = ['bash', '-c', 'ulimit -n 80; exec "$@"', '-'];
      const ended = await inOwnProcess(script, { engine, disk: disk.path }, { wrap });
      expect(ended).toMatchObject({ code: 0, stderr: '' });
      expect(ended.stdout).toMatch(/^(EMFILE )+(ERR_KCOPYD_OVERLAP\s)+$/);
    } finally {
      await output('delpart', [disk.path, '1']);
    }
  });

  test('P11 a region past the end is refused before any I/O', async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const loop = await workshop.loop({ bytes: MIB, seed: 'before' });
    const copier = await client({ engine });
    const beyond = [
      () => copier.copy({ device: source, sector: 2049 }, { device: loop.path }),
      () => copier.copy({ device: source, count: 2049 }, { device: loop.path }),
      () => copier.copy({ device: source, sector: 2047, count: 2 }, { device: loop.path }),
      () => copier.copy({ device: source }, { device: loop.path, sector: 1 }),
      () => copier.copy({ device: source, count: 1 }, { device: loop.path, sector: 2n ** 53n - 1n }),
      () =>
        copier.copy(
          { device: source, sector: Number.MAX_SAFE_INTEGER, count: Number.MAX_SAFE_INTEGER },
          { device: loop.path },
        ),
    ];
    for (const copy of beyond) expect((await rejection(copy())).code).toBe('ERR_KCOPYD_BOUNDS');
    await expectFile(loop.path, randomBytes('before', MIB));
  });

  test('P11 a device that is too small is named, with what it lacks', async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const [large, small] = [await workshop.loop({ bytes: MIB }), await workshop.loop({ bytes: MIB / 2 })];
    const copier = await client({ engine });
    const error = await rejection(copier.copy({ device: source }, [{ device: large.path }, { device: small.path }]));
    expect(error).toMatchObject({ code: 'ERR_KCOPYD_BOUNDS', destination: 1, path: small.path });
  });

  test('P11 a file grows instead, and where it cannot that is a write error of that destination', async ({
    workshop,
    client,
  }) => {
    const source = await workshop.file({ bytes: 4 * MIB, seed: 'source' });
    const small = await workshop.tmpfs(2 * MIB);
    const [full, grown] = [await workshop.file({ bytes: 0, path: `${small}/full` }), await workshop.file({ bytes: 0 })];
    const copier = await client({ engine });
    const error = await rejection(
      copier.copy({ device: source }, [{ device: full }, { device: grown, sector: 100 }], { ignoreErrors: true }),
    );
    expect(error).toMatchObject({ code: 'ENOSPC', errno: -28, syscall: 'write', path: full, destination: 0 });
    expect(error.outcome).toMatchObject({ readErr: 0, writeErr: 1 });
    expect(error.outcome?.destinations[1]).toEqual({ sectors: 8192, ok: true });
    await expectFile(grown, Buffer.concat([Buffer.alloc(100 * SECTOR), randomBytes('source', 4 * MIB)]));
  });
});
