// `sequential`: each destination's writes one after the other and in order, and an error at any place ends the job exactly.
// That it does so in every order of completions is shown on simulated disks, in crates/kcopyd/tests/mind/main.rs.
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { IGNORE_ERROR, WRITE_SEQ } from 'kcopyd';
import { expect } from 'vitest';
import { completion, expectBytes, expectFile, MIB, onEachEngine, rejection, SECTOR, test } from './support/kcopyd.js';
import { randomBytes } from './support/random.js';
import type { Workshop } from './support/workshop.js';

const SUB_JOB = 16;
const BAD = { offset: 640 * SECTOR, length: 8 * SECTOR };

/** Writes that are under way on a block device. */
function writesInFlight(device: string): number {
  const fields = readFileSync(`/sys/class/block/${device.replace('/dev/', '')}/inflight`, 'utf8')
    .trim()
    .split(/\s+/);
  return Number(fields[1]);
}

/** Looks at something again and again until a promise settles; the most that was seen. */
async function mostSeen(look: () => number, promise: Promise<unknown>): Promise<number> {
  let most = 0;
  let isOver = false;
  const over = promise.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    most = Math.max(most, look());
    await new Promise((resolve) => setImmediate(resolve));
  }
  await over;
  return most;
}

/** A good destination and one with a bad place in its middle; the numbers of both are those of the list. */
async function goodAndBad(workshop: Workshop): Promise<{ source: string; good: string; bad: string }> {
  const file = (): Promise<string> => workshop.file({ bytes: MIB, seed: 'before' });
  const faulty = await workshop.faulty({ kind: 'bad-writes', file: await file(), bad: BAD });
  return { source: await workshop.file({ bytes: MIB, seed: 'source' }), good: await file(), bad: faulty.path };
}

onEachEngine((engine) => {
  test('P15 one write at a time, in ascending order; without it many', async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const logged = await workshop.faulty({ kind: 'logged', file: await workshop.file({ bytes: MIB }), writeMs: 4 });
    const disk = await workshop.attach(logged.path);
    const copier = await client({ engine, subJobSectors: 64 });
    const run = (sequential: boolean): Promise<number> => {
      const copying = copier.copy({ device: source }, { device: disk.path }, { sequential });
      return mostSeen(() => writesInFlight(disk.path), copying);
    };
    expect(await run(false), 'writes at once without sequential').toBeGreaterThan(1);
    const before = logged.writes().length;
    expect(await run(true), 'writes at once with sequential').toBe(1);
    const offsets = logged
      .writes()
      .slice(before)
      .map(({ offset }) => offset);
    expect(offsets.length).toBeGreaterThanOrEqual(MIB / SECTOR / 64);
    expect(offsets).toEqual(offsets.toSorted((a, b) => a - b));
    expectBytes(await readFile(disk.path), randomBytes('source', MIB), 'the device');
  });

  test('P15 several destinations at once, on the smallest pool', async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const to = await Promise.all([1, 2, 3].map(() => workshop.file({ bytes: 0 })));
    const copier = await client({ engine, pages: 1 });
    const outcome = await copier.copy(
      { device: source },
      to.map((device) => ({ device })),
      { sequential: true, flush: true },
    );
    expect(outcome.destinations).toEqual(to.map(() => ({ sectors: MIB / SECTOR, ok: true })));
    for (const path of to) await expectFile(path, randomBytes('source', MIB));
  });

  test('P12, P14 and P15 an error in the middle: the exact mask, the exact prefix, and nothing behind it', async ({
    workshop,
    client,
  }) => {
    // ignoreErrors is overridden: sequential ends at the first error.
    for (const ignoreErrors of [false, true]) {
      const { source, good, bad } = await goodAndBad(workshop);
      const copier = await client({ engine, subJobSectors: SUB_JOB });
      const to = [{ device: good }, { device: bad }];
      const { code, outcome } = await rejection(
        copier.copy({ device: source }, to, { sequential: true, ignoreErrors }),
      );
      expect(code).toBe('EIO');
      expect(outcome).toMatchObject({ readErr: 0, writeErr: 0b10, failuresOmitted: 0 });
      expect(outcome?.failures).toEqual([
        { op: 'write', destination: 1, sector: 640, count: SUB_JOB, code: 'EIO', errno: 5 },
      ]);
      expect(outcome?.destinations[1]).toEqual({ sectors: 640, ok: false });
      const held = await readFile(bad);
      const end = BAD.offset + SUB_JOB * SECTOR;
      expectBytes(held.subarray(0, BAD.offset), randomBytes('source', BAD.offset), 'what precedes the error');
      expectBytes(held.subarray(end), randomBytes('before', MIB).subarray(end), 'what follows it');
      const prefix = outcome!.destinations[0]!.sectors * SECTOR;
      expectBytes((await readFile(good)).subarray(0, prefix), randomBytes('source', prefix), 'the good destination');
    }
  });

  test('P12 the mask is exact by callback too', async ({ workshop, client, device }) => {
    const { source, good, bad } = await goodAndBad(workshop);
    const from = await device(source);
    const to = [
      { device: await device(bad, { access: 'write' }) },
      { device: await device(good, { access: 'write' }) },
    ];
    const copier = await client({ engine, subJobSectors: SUB_JOB });
    for (const flags of [WRITE_SEQ, WRITE_SEQ | IGNORE_ERROR]) {
      const { notify, called } = completion();
      copier.submitCopy({ device: from }, to, flags, notify, flags);
      expect(await called).toEqual([0, 0b01, flags]);
    }
  });

  test('P15 zeroes too', async ({ workshop, client }) => {
    // tmpfs does not make zeroes itself: they are written.
    const directory = await workshop.tmpfs(8 * MIB);
    const file = await workshop.file({ bytes: MIB, seed: 'before', path: `${directory}/file` });
    const copier = await client({ engine, pages: 2 });
    const options = { sequential: true, flush: true };
    expect((await copier.zero({ device: file, count: 2000 }, options)).sectors).toBe(2000);
    const expected = randomBytes('before', MIB);
    expected.fill(0, 0, 2000 * SECTOR);
    await expectFile(file, expected);
  });
});
