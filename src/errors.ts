// The only place where errors are made: the one public class, and a function for every kind of refusal. It refuses to
// decide what is refused; options.ts, device.ts, client.ts and the native part do that.
import { inspect } from 'node:util';
import type { Outcome } from '../index.js';
import { errnoMeaning, errnoName } from './errno.js';
import type { NativeError } from './native.js';

/** @internal */
export interface ErrorDetails {
  readonly errno?: number | undefined;
  readonly syscall?: string | undefined;
  readonly path?: string | undefined;
  readonly destination?: number | undefined;
  readonly outcome?: Outcome | undefined;
  readonly cause?: unknown;
}

/**
 * The one class of every error that kcopyd makes; `code` tells them apart.
 *
 * - Bad arguments: `ERR_INVALID_ARG_TYPE` and `ERR_OUT_OF_RANGE`, as in Node. They too are of this class and not
 *   `TypeError` or `RangeError`, so that one `instanceof` (or one look at `code`) is enough.
 * - A system error: `code` is the name of the errno (`EIO`, `ENOSPC`, `EBUSY`, …), with `errno`, `syscall` and `path`.
 * - An abort: `name` is `AbortError`, `code` is `ABORT_ERR`, `cause` is the signal's reason.
 * - Own codes begin with `ERR_KCOPYD_`.
 */
export class KcopydError extends Error {
  static {
    // On the prototype, as Node's own errors have it: an own property would be printed with every error.
    Object.defineProperty(KcopydError.prototype, 'name', { value: 'KcopydError', configurable: true, writable: true });
  }

  /** What kind of error it is; stable, unlike the message. */
  readonly code: string;
  /** A system error's errno: **negative**, as on every error of Node's. */
  declare readonly errno?: number;
  /** The system call that failed, such as `open`, `read`, `write`, `fdatasync`. */
  declare readonly syscall?: string;
  /** The path that it was about, as the device was opened by. */
  declare readonly path?: string;
  /** The destination that it was about, from 0; absent if it was about the source or about no region. */
  declare readonly destination?: number;
  /** What the job came to, for a job that had begun: every destination, every failure. */
  declare readonly outcome?: Outcome;

  /** @internal */
  constructor(code: string, message: string, details: ErrorDetails = {}) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined);
    this.code = code;
    for (const key of ['errno', 'syscall', 'path', 'destination', 'outcome'] as const) {
      // Absent is absent: `'outcome' in error` says whether the job had begun.
      if (details[key] !== undefined) Object.assign(this, { [key]: details[key] });
    }
  }
}

/** In the form of Node's own: told by its name and code. It is a KcopydError besides, because it carries an outcome. */
class AbortError extends KcopydError {
  static {
    Object.defineProperty(AbortError.prototype, 'name', { value: 'AbortError', configurable: true, writable: true });
  }
}

/** A value of the wrong type; `expected` reads on from "must be". */
export function wrongType(field: string, expected: string, value: unknown): KcopydError {
  return new KcopydError('ERR_INVALID_ARG_TYPE', `${field} must be ${expected}. Received ${received(value)}`);
}

/** A value of the right type outside what is allowed; `expected` reads on from "must be". */
export function outOfRange(field: string, expected: string, value: unknown): KcopydError {
  return new KcopydError('ERR_OUT_OF_RANGE', `${field} must be ${expected}. Received ${received(value)}`);
}

/** A value that cannot be read for a reason of its own. */
export function unusable(field: string, why: string, cause: unknown): KcopydError {
  return new KcopydError('ERR_INVALID_ARG_TYPE', `${field} cannot be used: ${why}`, { cause });
}

/** A property that nobody knows. */
export function unknownOption(field: string, nearest: string): KcopydError {
  return new KcopydError('ERR_INVALID_ARG_TYPE', `${field} is not known. Did you mean ${nearest}?`);
}

/** A prepared callback's second call. */
export function alreadyCalled(): KcopydError {
  return new KcopydError('ERR_KCOPYD_ALREADY_CALLED', 'a prepared callback may be called once: prepare another one');
}

/** A class that only its own static function makes. */
export function notConstructible(name: string, maker: string): KcopydError {
  return new KcopydError('ERR_KCOPYD_ILLEGAL_CONSTRUCTOR', `a ${name} is made by ${maker}, not by new`);
}

/** A job for a client that is closed, or closing. */
export function clientClosed(): KcopydError {
  return new KcopydError('ERR_KCOPYD_CLOSED', 'the client is closed and takes no more jobs: create another one');
}

/** A job for a device that is closed, or closing. */
export function deviceClosed(field: string, path: string, destination?: number): KcopydError {
  const message = `${field} is closed and takes no more jobs: open it again (${path})`;
  return new KcopydError('ERR_KCOPYD_DEVICE_CLOSED', message, { path, destination });
}

/** A refusal of the native part, with what only the face knows about it. */
export function fromNative(error: NativeError, known: { path?: string; destination?: number } = {}): KcopydError {
  const path = error.path ?? known.path;
  const details: ErrorDetails = {
    errno: error.errno > 0 ? -error.errno : undefined,
    syscall: error.syscall ?? undefined,
    path,
    destination: error.destination ?? known.destination,
    ...('cause' in error && { cause: error.cause }),
  };
  if (error.code !== '') {
    const where = path === undefined || error.message.includes(path) ? '' : ` (${path})`;
    return new KcopydError(error.code, error.message + where, details);
  }
  const advice = error.message === '' ? '' : `: ${error.message}`;
  return new KcopydError(errnoName(error.errno), systemMessage(error.errno, error.syscall, path) + advice, details);
}

/** In the form of Node's system errors: `EIO: i/o error, write '/dev/loop1'`. */
export function systemMessage(errno: number, syscall: string | null, path: string | undefined): string {
  const where = path === undefined ? '' : ` '${path}'`;
  const call = syscall === null ? where : `, ${syscall}${where}`;
  return `${errnoName(errno)}: ${errnoMeaning(errno)}${call}`;
}

/** An abort, with what the job came to. */
export function aborted(reason: unknown, message: string, outcome: Outcome): KcopydError {
  return new AbortError('ABORT_ERR', message, { cause: reason, outcome });
}

/** Makes an error surface as an uncaught exception, after what is going on now. */
export function surface(error: unknown): void {
  process.nextTick(() => {
    throw error;
  });
}

function received(value: unknown): string {
  if (typeof value === 'function') return `function ${value.name}`;
  if (typeof value === 'object' && value !== null) {
    return Array.isArray(value)
      ? `an array of ${value.length}`
      : `an instance of ${value.constructor?.name ?? 'Object'}`;
  }
  const text = inspect(value);
  return `${value === null || value === undefined ? '' : `${typeof value} `}${text.length > 60 ? `${text.slice(0, 60)}…` : text}`;
}
