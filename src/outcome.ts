// What a job came to, in the caller's form, and the error that says so in words. It refuses to know how jobs run.
import type { Failure, KcopydError as KcopydErrorType, Outcome } from '../index.js';
import { ECANCELED, errnoName } from './errno.js';
import { aborted, KcopydError, systemMessage } from './errors.js';
import type { NativeOutcome } from './native.js';

/** What a job was accepted as. */
export interface Accepted {
  readonly sectors: number;
  readonly bytes: number;
}

/** What an error's words need to know of a job besides its outcome. */
export interface JobNames {
  readonly sectors: number;
  /** Without one it was zeroes. */
  readonly source: string | undefined;
  readonly destinations: readonly string[];
}

/** Every byte in every destination: nothing of it crosses the boundary, it follows from what was accepted. */
export function fullSuccess(accepted: Accepted, destinations: number, durationMs: number): Outcome {
  const states: { sectors: number; ok: boolean }[] = [];
  for (let index = 0; index < destinations; index++) states.push({ sectors: accepted.sectors, ok: true });
  return {
    sectors: accepted.sectors,
    bytes: accepted.bytes,
    readErr: 0,
    writeErr: 0,
    failures: [],
    failuresOmitted: 0,
    destinations: states,
    durationMs,
  };
}

/** Of a job that was aborted before it was submitted. */
export function notBegun(destinations: number): Outcome {
  return {
    ...fullSuccess({ sectors: 0, bytes: 0 }, 0, 0),
    readErr: ECANCELED,
    destinations: Array.from({ length: destinations }, () => ({ sectors: 0, ok: false })),
  };
}

/** Of anything but a full success. */
export function fromNativeOutcome(native: NativeOutcome, durationMs: number): Outcome {
  return {
    sectors: native.sectors,
    bytes: native.bytes,
    readErr: native.readErr,
    writeErr: native.writeErr,
    failures: native.failures.map(({ op, destination, sector, count, errno }) => {
      return { op, destination, sector, count, code: errnoName(errno), errno };
    }),
    failuresOmitted: native.failuresOmitted,
    destinations: native.destinations.map(({ sectors, ok }) => ({ sectors, ok })),
    durationMs,
  };
}

/** Whether the job's promise resolves with it. */
export function isSuccess(outcome: Outcome): boolean {
  return outcome.readErr === 0 && outcome.writeErr === 0;
}

/** The error of a job that was aborted. */
export function abortedError(outcome: Outcome, reason: unknown, names: JobNames): KcopydErrorType {
  return aborted(reason, `The operation was aborted; ${holdings(outcome, names.sectors)}`, outcome);
}

/** The error of a job of a client that broke inside (P32). */
export function brokenError(outcome: Outcome, names: JobNames): KcopydErrorType {
  const message =
    'something inside kcopyd is broken, and this client takes no more jobs: create another one, and report it';
  return new KcopydError('ERR_KCOPYD_INTERNAL', `${message}; ${holdings(outcome, names.sectors)}`, { outcome });
}

/** The error of a job that failed: named after its first failure, carrying all of them. */
export function failedError(outcome: Outcome, names: JobNames): KcopydErrorType {
  const first = firstFailure(outcome);
  const held = holdings(outcome, names.sectors);
  // Whatever failed is listed; should it ever not be, the numbers still say that it did.
  if (!first) return new KcopydError(errnoName(outcome.readErr), `the job failed; ${held}`, { outcome });
  const { op, destination, sector, code, errno } = first;
  const syscall = SYSCALLS[op];
  const path = destination === null ? names.source : names.destinations[destination];
  const which = destination === null || names.destinations.length === 1 ? '' : ` (destination ${destination})`;
  const where = op === 'flush' ? '' : ` at sector ${sector}`;
  const message = `${systemMessage(errno, syscall, path)}${where}${which}${others(outcome)}; ${held}`;
  return new KcopydError(code, message, {
    errno: -errno,
    syscall,
    path,
    destination: destination ?? undefined,
    outcome,
  });
}

const SYSCALLS = { read: 'read', write: 'write', flush: 'fdatasync', zero: 'fallocate' } as const;

/** A read error concerns every destination, so it comes before a write error. */
function firstFailure(outcome: Outcome): Failure | undefined {
  return outcome.failures.find(({ op }) => op === 'read') ?? outcome.failures[0];
}

function others(outcome: Outcome): string {
  const count = outcome.failures.length + outcome.failuresOmitted - 1;
  if (count <= 0) return '';
  return ` and ${count} more failure${count === 1 ? '' : 's'}`;
}

/** How many incomplete destinations are told one by one; the outcome has all. */
const TOLD_MAX = 4;

/** What the destinations hold: "destinations 0 and 2 are complete, destination 1 holds the first 8 of 2048 sectors". */
function holdings({ destinations }: Outcome, total: number): string {
  const holds = (sectors: number): string => {
    return total === 0
      ? 'holds nothing of it'
      : `holds ${sectors === 0 ? 'none' : `at least the first ${sectors}`} of ${total} sectors`;
  };
  if (destinations.length === 1) {
    const [only] = destinations;
    return only!.ok ? 'the destination is complete' : `the destination ${holds(only!.sectors)}`;
  }
  const complete = destinations.flatMap(({ ok }, index) => (ok ? [index] : []));
  const incomplete = destinations.flatMap(({ ok, sectors }, index) =>
    ok ? [] : [`destination ${index} ${holds(sectors)}`],
  );
  const told = incomplete.slice(0, TOLD_MAX);
  if (incomplete.length > told.length) told.push(`${incomplete.length - told.length} more are incomplete`);
  return [completeText(complete), ...told].join(', ');
}

function completeText(complete: readonly number[]): string {
  if (complete.length === 0) return 'no destination is complete';
  if (complete.length === 1) return `destination ${complete[0]} is complete`;
  return `destinations ${complete.slice(0, -1).join(', ')} and ${complete.at(-1)} are complete`;
}
