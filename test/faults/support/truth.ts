// Holds an outcome against the bytes that are really there: everything that an outcome says must be so, and everything that is
// not as it should be must be said by it. It believes no outcome, and knows neither the fault nor the engine.
import { readFile } from 'node:fs/promises';
import type { Failure, Outcome } from 'kcopyd';
import { expect } from 'vitest';
import { SECTOR } from '../../support/kcopyd.js';
import { before, COUNT, FROM_SECTOR, type Place, SOURCE, TO_SECTOR } from './rig.js';

/** What a sector of a destination's region holds. */
type Held = 'new' | 'old' | 'zero' | 'other';

const ZEROS = Buffer.alloc(SECTOR);
const ECANCELED = 125;

export interface Judgement {
  /** Whether errors were to be ignored: then all that no failure lists must be there. */
  readonly ignoreErrors?: boolean;
  /** Whether the job was aborted. */
  readonly aborted?: boolean;
}

/** Fails unless the outcome is the truth about these destinations. */
export async function expectTruth(
  outcome: Outcome,
  to: readonly Place[],
  { ignoreErrors = false, aborted = false }: Judgement = {},
): Promise<void> {
  const { failures, destinations, readErr, writeErr } = outcome;
  expect(outcome.failuresOmitted, 'failures omitted').toBe(0);
  expect(destinations, 'destinations').toHaveLength(to.length);
  expectBits(outcome, aborted);
  expect(outcome.bytes, 'bytes').toBe(outcome.sectors * SECTOR);
  const isClean = readErr === 0 && writeErr === 0;
  expect(isClean, 'P17 no error if and only if every destination is ok').toBe(destinations.every(({ ok }) => ok));
  const unread = offsetsOf(failures, null, FROM_SECTOR);
  for (const [index, place] of to.entries()) {
    const { sectors, ok } = destinations[index]!;
    expect(sectors, `sectors of destination ${index}`).toBeLessThanOrEqual(COUNT);
    expect(outcome.sectors, 'the prefix of all').toBeLessThanOrEqual(sectors);
    const failed = failures.some(({ destination }) => destination === index);
    if (failed) expect(ok, `ok of destination ${index}, which failed`).toBe(false);
    if (ok) expect(sectors, `sectors of destination ${index}, which is ok`).toBe(COUNT);
    if (place.file === undefined) continue;
    const bytes = await readFile(place.file);
    expectOutside(bytes, before(place), index);
    const held = heldIn(bytes, before(place));
    expectHeld(held, {
      index,
      prefix: sectors,
      unread,
      unwritten: offsetsOf(failures, index, TO_SECTOR),
      ignoreErrors,
    });
    if (ok) expect(held.every((state) => state === 'new')).toBe(true);
  }
}

/** P12, P17: the bits and the errno are those of the failures. */
function expectBits({ failures, readErr, writeErr }: Outcome, aborted: boolean): void {
  const read = failures.find(({ op }) => op === 'read');
  const other = failures.filter(({ op }) => op !== 'read');
  expect(readErr, 'readErr').toBe(read?.errno ?? (aborted ? ECANCELED : 0));
  expect(writeErr, 'P12 writeErr').toBe(other.reduce((bits, { destination }) => (bits | (1 << destination!)) >>> 0, 0));
  for (const { op, destination, sector, count, errno, code } of failures) {
    expect(destination === null, `${op} of destination ${destination}`).toBe(op === 'read');
    const first = op === 'read' ? FROM_SECTOR : TO_SECTOR;
    expect(sector, 'a failure begins in the region').toBeGreaterThanOrEqual(first);
    expect(count, 'a failure is of something').toBeGreaterThan(0);
    expect(sector + count, 'a failure ends in the region').toBeLessThanOrEqual(first + COUNT);
    expect(errno, 'errno is positive').toBeGreaterThan(0);
    expect(code).toMatch(/^E[A-Z0-9]+$/);
  }
}

/** P6: nothing outside the region has changed. */
function expectOutside(bytes: Buffer, old: Buffer, index: number): void {
  const [first, end] = [TO_SECTOR * SECTOR, (TO_SECTOR + COUNT) * SECTOR];
  const same = bytes.subarray(0, first).equals(old.subarray(0, first));
  expect(same, `P6 the bytes before the region of destination ${index}`).toBe(true);
  const rest = bytes.subarray(end);
  expect(rest.equals(old.subarray(end, bytes.length)), `P6 the bytes behind the region of ${index}`).toBe(true);
}

function heldIn(bytes: Buffer, old: Buffer): Held[] {
  return Array.from({ length: COUNT }, (_, offset) => {
    const sector = (at: number, of: Buffer): Buffer => of.subarray((at + offset) * SECTOR, (at + offset + 1) * SECTOR);
    const found = sector(TO_SECTOR, bytes);
    if (found.equals(sector(FROM_SECTOR, SOURCE))) return 'new';
    if (found.equals(sector(TO_SECTOR, old))) return 'old';
    return found.equals(ZEROS) ? 'zero' : 'other';
  });
}

interface Expected {
  readonly index: number;
  readonly prefix: number;
  readonly unread: ReadonlySet<number>;
  readonly unwritten: ReadonlySet<number>;
  readonly ignoreErrors: boolean;
}

/** P8, P14, P17: each sector of a region is what it may be. */
function expectHeld(held: readonly Held[], { index, prefix, unread, unwritten, ignoreErrors }: Expected): void {
  for (const [offset, state] of held.entries()) {
    const where = `sector ${offset} of the region of destination ${index} holds ${state} bytes`;
    if (offset < prefix) expect(state, `P17 ${where}, below its prefix of ${prefix}`).toBe('new');
    else if (unwritten.has(offset)) expect(state, `P8 ${where}; its write failed`).not.toBe('other');
    else if (unread.has(offset)) expect(state, `P8 ${where}; it could not be read`).toBe(ignoreErrors ? 'zero' : 'old');
    else if (ignoreErrors) expect(state, `P14 ${where}, and no failure says so`).toBe('new');
    else expect(['new', 'old'], `P8 ${where}`).toContain(state);
  }
}

/** The places in the region that the failures of one device cover. */
function offsetsOf(failures: readonly Failure[], device: number | null, first: number): ReadonlySet<number> {
  const offsets = new Set<number>();
  for (const { op, destination, sector, count } of failures) {
    if (destination !== device || op === 'flush') continue;
    for (let offset = sector - first; offset < sector - first + count; offset++) offsets.add(offset);
  }
  return offsets;
}
