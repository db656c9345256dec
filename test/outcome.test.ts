// What a job comes to when something fails: which destination, where, with which errno, and what each holds after all.
import { readFile, truncate } from 'node:fs/promises';
import type { KcopydError, Outcome } from 'kcopyd';
import { expect } from 'vitest';
import { output } from './support/command.js';
import { expectFile, MIB, onEachEngine, rejection, SECTOR, test } from './support/kcopyd.js';
import { randomBytes } from './support/random.js';
import type { Workshop } from './support/workshop.js';

const SUB_JOB = 16;
const SECTORS = MIB / SECTOR;

/** Three destinations, of which the middle one fails every write. */
async function threeOfWhichOneFails(workshop: Workshop): Promise<{ source: string; to: string[] }> {
  const source = await workshop.file({ bytes: MIB, seed: 'source' });
  const faulty = await workshop.faulty({
    kind: 'write-errors',
    file: await workshop.file({ bytes: MIB, seed: 'before' }),
  });
  const healthy = await Promise.all([1, 2].map(() => workshop.file({ bytes: MIB, seed: 'before' })));
  const bad = await workshop.attach(faulty.path);
  return { source, to: [healthy[0]!, bad.path, healthy[1]!] };
}

/** What `ok` and `sectors` claim is so: the prefix is the source's. */
async function expectHeld(outcome: Outcome, paths: readonly string[]): Promise<void> {
  for (const [index, path] of paths.entries()) {
    const { sectors, ok } = outcome.destinations[index]!;
    const held = (await readFile(path)).subarray(0, sectors * SECTOR);
    expect(held.equals(randomBytes('source', MIB).subarray(0, sectors * SECTOR)), `the prefix of ${path}`).toBe(true);
    if (ok) expect(sectors).toBe(SECTORS);
    expect(outcome.sectors).toBeLessThanOrEqual(sectors);
  }
}

onEachEngine((engine) => {
  test('P12 writeErr has the bit of the destination that failed, and no other', async ({ workshop, client }) => {
    const { source, to } = await threeOfWhichOneFails(workshop);
    const copier = await client({ engine, subJobSectors: SUB_JOB });
    const error = await rejection(
      copier.copy(
        { device: source },
        to.map((device) => ({ device })),
        { ignoreErrors: true },
      ),
    );
    expect(error).toMatchObject({
      name: 'KcopydError',
      code: 'EIO',
      errno: -5,
      syscall: 'write',
      destination: 1,
      path: to[1],
    });
    expect(error.message).toContain(`EIO: i/o error, write '${to[1]}' at sector 0 (destination 1)`);
    expect(error.message).toContain('destinations 0 and 2 are complete, destination 1 holds none of 2048 sectors');
    expect(error.outcome).toMatchObject({ readErr: 0, writeErr: 0b010, sectors: 0 });
  });

  test('P12 bit 31 is a positive number', async ({ workshop, client }) => {
    const { source, to } = await threeOfWhichOneFails(workshop);
    const healthy = await Promise.all(Array.from({ length: 31 }, () => workshop.file({ bytes: 0 })));
    const copier = await client({ engine });
    const regions = [...healthy, to[1]!].map((device) => ({ device }));
    const { outcome } = await rejection(copier.copy({ device: source, count: 8 }, regions, { ignoreErrors: true }));
    expect(outcome?.writeErr).toBe(2 ** 31);
  });

  test('P13 the first error stops the job, and one failure corrupts no other destination', async ({
    workshop,
    client,
  }) => {
    const { source, to } = await threeOfWhichOneFails(workshop);
    const copier = await client({ engine, subJobSectors: SUB_JOB });
    const { outcome } = await rejection(
      copier.copy(
        { device: source },
        to.map((device) => ({ device })),
      ),
    );
    expect(outcome).toMatchObject({ readErr: 0, writeErr: 0b010 });
    // Stopped: of 128 pieces far fewer were attempted.
    const attempted = outcome!.failures.reduce((sum, { count }) => sum + count, 0) + outcome!.failuresOmitted;
    expect(attempted).toBeLessThan(SECTORS / 2);
    await expectHeld(outcome!, to);
    // Each sector of the healthy ones is the source's or untouched, and the other part of a failed piece has arrived.
    expect(outcome!.destinations[0]!.sectors).toBeGreaterThanOrEqual(SUB_JOB);
    expect(outcome!.destinations[2]!.sectors).toBeGreaterThanOrEqual(SUB_JOB);
  });

  test('P14 with ignoreErrors everything is attempted everywhere, and errors add up', async ({ workshop, client }) => {
    const { source, to } = await threeOfWhichOneFails(workshop);
    const copier = await client({ engine, subJobSectors: SUB_JOB });
    const { outcome } = await rejection(
      copier.copy(
        { device: source },
        to.map((device) => ({ device })),
        { ignoreErrors: true },
      ),
    );
    // Adjacent equal failures are one.
    expect(outcome?.failures).toEqual([
      { op: 'write', destination: 1, sector: 0, count: SECTORS, code: 'EIO', errno: 5 },
    ]);
    expect(outcome?.destinations).toEqual([
      { sectors: SECTORS, ok: true },
      { sectors: 0, ok: false },
      { sectors: SECTORS, ok: true },
    ]);
    for (const path of [to[0]!, to[2]!]) await expectFile(path, randomBytes('source', MIB));
  });

  test('P14 one bad place costs its own piece alone', async ({ workshop, client }) => {
    const bad = { offset: 256 * SECTOR, length: 8 * SECTOR };
    const file = await workshop.file({ bytes: MIB, seed: 'before' });
    const faulty = await workshop.faulty({ kind: 'bad-writes', file, bad });
    const destination = await workshop.attach(faulty.path);
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const copier = await client({ engine, subJobSectors: SUB_JOB });
    const error = await rejection(
      copier.copy({ device: source }, { device: destination.path }, { ignoreErrors: true }),
    );
    const [failure, ...more] = error.outcome!.failures;
    expect(more).toEqual([]);
    expect(failure).toMatchObject({ op: 'write', destination: 0, code: 'EIO', errno: 5 });
    expect(failure!.sector).toBeGreaterThan(256 - SUB_JOB);
    expect(failure!.sector + failure!.count).toBeLessThan(264 + SUB_JOB);
    faulty.heal();
    const [fresh, held] = [randomBytes('source', MIB), await readFile(faulty.path)];
    for (let sector = 0; sector < SECTORS; sector++) {
      if (sector >= failure!.sector && sector < failure!.sector + failure!.count) continue;
      const range = [sector * SECTOR, (sector + 1) * SECTOR] as const;
      expect(held.subarray(...range).equals(fresh.subarray(...range)), `sector ${sector}`).toBe(true);
    }
    expect(error.outcome!.destinations[0]!.sectors).toBe(failure!.sector);
  });

  test('P16 a source that has shrunk is a read error, never a success', async ({ workshop, client, device }) => {
    const source = await workshop.loop({ bytes: MIB, seed: 'source' });
    const opened = await device(source.path);
    await truncate(source.file, MIB / 2);
    await output('losetup', ['--set-capacity', source.path]);
    const destination = await workshop.file({ bytes: MIB, seed: 'before' });
    const copier = await client({ engine, subJobSectors: SUB_JOB });
    // The size may be looked at again when the job is submitted: then the region is refused, which is as good.
    const error = await rejection(copier.copy({ device: opened, count: SECTORS }, { device: destination }));
    if (error.code === 'ERR_KCOPYD_BOUNDS') return;
    expect(error).toMatchObject({ code: 'EIO', syscall: 'read' });
    expect(error.outcome!.sectors).toBeLessThanOrEqual(SECTORS / 2);
  });

  test('P16 a source file that shrinks while it is copied is a read error, never a success', async ({
    workshop,
    client,
    device,
  }) => {
    const file = await workshop.file({ bytes: MIB, seed: 'source' });
    // Slow enough that the file is cut while the job runs.
    const faulty = await workshop.faulty({ kind: 'slow', file: await workshop.file({ bytes: MIB }), writeMs: 50 });
    const source = await device(file);
    const copier = await client({ engine, subJobSectors: 8, pages: 1 });
    let cut: Promise<void> | undefined;
    const copying = copier.copy(
      { device: source },
      { device: faulty.path },
      { onProgress: () => (cut ??= truncate(file, 4096)) },
    );
    const error = await rejection(copying);
    await cut;
    expect(error).toMatchObject({ code: 'EIO', syscall: 'read', path: file });
    expect(error.outcome).toMatchObject({ readErr: 5, writeErr: 0 });
  });

  test('P17 readErr and writeErr are both 0 if and only if every destination is ok', async ({ workshop, client }) => {
    const { source, to } = await threeOfWhichOneFails(workshop);
    const copier = await client({ engine, subJobSectors: SUB_JOB });
    const regions = to.map((device) => ({ device }));
    const outcomes = [
      await copier.copy({ device: source }, [regions[0]!, regions[2]!]),
      (await rejection(copier.copy({ device: source }, regions))).outcome!,
      (await rejection(copier.copy({ device: source }, regions, { ignoreErrors: true }))).outcome!,
      (await rejection(copier.copy({ device: to[1]!, count: SECTORS }, regions[0]!, { signal: AbortSignal.abort() })))
        .outcome!,
    ];
    for (const outcome of outcomes) {
      expect(outcome.destinations.every(({ ok }) => ok)).toBe(outcome.readErr === 0 && outcome.writeErr === 0);
    }
    expect(outcomes.map(({ writeErr }) => writeErr)).toEqual([0, 0b010, 0b010, 0]);
  });

  test('P17 after an error a clear bit does not mean complete: ok and sectors say what is held', async ({
    workshop,
    client,
  }) => {
    const source = await workshop.file({ bytes: 8 * MIB, seed: 'source' });
    const faulty = await workshop.faulty({ kind: 'write-errors', file: await workshop.file({ bytes: 8 * MIB }) });
    const healthy = await workshop.file({ bytes: 0 });
    const copier = await client({ engine, subJobSectors: SUB_JOB });
    const { outcome } = await rejection(
      copier.copy({ device: source }, [{ device: healthy }, { device: faulty.path }]),
    );
    expect(outcome!.writeErr).toBe(0b10);
    expect(outcome!.destinations[0]!.ok).toBe(false);
    const { sectors } = outcome!.destinations[0]!;
    const held = (await readFile(healthy)).subarray(0, sectors * SECTOR);
    expect(held.equals(randomBytes('source', sectors * SECTOR))).toBe(true);
  });

  test('P17 failures name the sector on the device that failed', async ({ workshop, client }) => {
    const bad = { offset: 1024 * SECTOR, length: 8 * SECTOR };
    const file = await workshop.file({ bytes: MIB, seed: 'source' });
    const faulty = await workshop.faulty({ kind: 'bad-reads', file, bytes: MIB, bad: [bad] });
    const source = await workshop.attach(faulty.path, { readOnly: true });
    const destination = await workshop.file({ bytes: MIB });
    const copier = await client({ engine, subJobSectors: 8 });
    const copying = copier.copy(
      { device: source.path, sector: 1000, count: 48 },
      { device: destination, sector: 16 },
      { ignoreErrors: true },
    );
    const error = await rejection(copying);
    expect(error.outcome?.failures).toEqual([
      { op: 'read', destination: null, sector: 1024, count: 8, code: 'EIO', errno: 5 },
    ]);
    expect(error.outcome?.destinations).toEqual([{ sectors: 24, ok: false }]);
    expect(error.message).toContain(
      `EIO: i/o error, read '${source.path}' at sector 1024; the destination holds at least the first 24 of 48 sectors`,
    );
  });

  test('a flush that fails is a failure of the whole region', async ({ workshop, client }) => {
    const faulty = await workshop.faulty({ kind: 'flush-errors', file: await workshop.file({ bytes: 64 * SECTOR }) });
    const destination = await workshop.attach(faulty.path);
    const source = await workshop.file({ bytes: 64 * SECTOR, seed: 'source' });
    const copier = await client({ engine });
    const error = await rejection(
      copier.copy({ device: source, count: 32 }, { device: destination.path, sector: 8 }, { flush: true }),
    );
    expect(error).toMatchObject({ code: 'EIO', syscall: 'fdatasync', destination: 0, path: destination.path });
    expect(error.outcome?.failures).toEqual([
      { op: 'flush', destination: 0, sector: 8, count: 32, code: 'EIO', errno: 5 },
    ]);
    expect(error.outcome).toMatchObject({ readErr: 0, writeErr: 1, destinations: [{ ok: false }] });
  });

  test('an error prints with its code and fields, and an outcome is plain data', async ({ workshop, client }) => {
    const { source, to } = await threeOfWhichOneFails(workshop);
    const copier = await client({ engine });
    const error: KcopydError = await rejection(copier.copy({ device: source, count: 8 }, { device: to[1]! }));
    expect(Object.keys(error).sort()).toEqual(['code', 'destination', 'errno', 'outcome', 'path', 'syscall']);
    expect(error).toBeInstanceOf(Error);
    expect(error.stack).toMatch(/^KcopydError: EIO: i\/o error, write/);
    expect(structuredClone(error.outcome)).toEqual(error.outcome);
  });
});
