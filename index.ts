// The whole public face of kcopyd: first the types, then the classes and functions. It says what everything means and
// forwards; what happens is in src/. It refuses to decide anything, and to export anything private.

import type { FileHandle } from 'node:fs/promises';
import { Client } from './src/client.js';
import { copy, zero } from './src/copy.js';
import { giveSight, OpenDevice, openDevice } from './src/device.js';
import { notConstructible } from './src/errors.js';
import { SECTOR_BYTES } from './src/limits.js';
import { FLAG_IGNORE_ERROR, FLAG_WRITE_SEQ } from './src/native.js';
import { prepareCallback } from './src/prepared.js';
import { submitCopy, submitZero } from './src/submit_copy.js';
import { support as lookAround } from './src/support.js';
import { giveSightOfThrottle, SharedLimits } from './src/throttle.js';

export { KcopydError } from './src/errors.js';

/**
 * A sector, or a number of sectors, of **512 bytes each, whatever the device's logical block is** (the kernel's `sector_t`).
 * Whole, from 0 to 2^53 - 1; anything else is `ERR_OUT_OF_RANGE` or `ERR_INVALID_ARG_TYPE`. Results are always numbers.
 */
export type SectorNumber = number | bigint;

/** How {@link Device.open} opens a device. */
export interface DeviceOptions {
  /** What it is for: `'read'` to be a source, `'write'` to be a destination, or both. Default: `'read'`. */
  access?: 'read' | 'write' | 'read-write';
  /**
   * Whether data goes past the page cache (O_DIRECT). `'auto'`, the default: where the device or file system grants it, else
   * through the cache, and {@link Device.directReason} says why. `'always'` rejects where it is not granted.
   */
  direct?: 'auto' | 'always' | 'never';
  /**
   * Whether nobody else may have it open the same way: O_EXCL for a block device (`EBUSY` if it is mounted or in use), a lock
   * (flock) for a regular file. Default: true for a block device opened for writing, so that a disk in use is never
   * overwritten, and for a file opened for writing.
   */
  exclusive?: boolean;
  /** Whether a regular file that does not exist is made. Never on the file system mounted at `/dev` itself. Default: false. */
  create?: boolean;
  /**
   * Refuses any other device than the one that was enumerated before. Each is a whole number; what is absent is not looked at; a
   * difference is `ERR_KCOPYD_UNEXPECTED_DEVICE`.
   */
  expect?: {
    /** Its device number, as `stat.rdev` has it. */
    rdev?: number;
    /** Its size, in bytes. */
    size?: number;
    /** Its disk sequence number (`/sys/block/NAME/diskseq`), which no other disk has until the next boot. */
    diskSequence?: number;
  };
}

/**
 * What a region may lie on: an opened {@link Device}, or, for {@link KcopydClient.copy} and {@link KcopydClient.zero} alone, a
 * path, a `FileHandle` or a file descriptor.
 *
 * A path is opened for the job and closed before its promise settles: a source for reading, a destination for writing, with
 * the defaults of {@link DeviceOptions}. The same path twice in one job is opened once. A `FileHandle` or descriptor is
 * duplicated before the call returns and used with the flags that it has (P29). Jobs that share a device at the same time share
 * a `Device` object, also across clients.
 */
export type DeviceLike = Device | string | URL | Buffer | FileHandle | number;

/** A range of sectors on a device (the kernel's `struct dm_io_region`). */
export interface IoRegion {
  /** Where it lies. */
  device: DeviceLike;
  /**
   * Its first sector. Default: 0. On a block device a multiple of the logical block, else `ERR_KCOPYD_ALIGNMENT`.
   */
  sector?: SectorNumber;
  /**
   * How many sectors; 0 is a job that completes at once. A source's default is to its end. A destination's default, and only
   * legal value, is the source's; without a source ({@link KcopydClient.zero}) it is required. Past the end of the device it is `ERR_KCOPYD_BOUNDS`; a destination that is a regular
   * file grows instead.
   */
  count?: SectorNumber;
}

/** How {@link KcopydClient.create} makes a client. */
export interface ClientOptions {
  /**
   * Pages of 4096 bytes set aside for this client: the `num_pages` of `kcopyd_client_create`. A hard cap on the memory that
   * its jobs use (P19), from 1 to 2^20. Default: 4096, which is 16 MiB.
   */
  pages?: number;
  /**
   * The largest piece that is read and written at once, in sectors, from 8 to 2048 and no larger than the pool. Default: 1024,
   * which is 512 KiB, or the whole pool if that is less.
   */
  subJobSectors?: number;
  /**
   * What executes the jobs. `'auto'`, the default, takes io_uring where it runs, else threads; the environment variable
   * `KCOPYD_ENGINE` overrides it. One that is named and cannot run rejects with `ERR_KCOPYD_ENGINE_UNAVAILABLE`.
   */
  engine?: 'auto' | 'io_uring' | 'threads';
  /** Holds its jobs back. Several clients may share one: then its limits hold for all of them together. Default: none. */
  throttle?: Throttle;
}

/** What a {@link Throttle} allows. One that is absent is no limit. */
export interface ThrottleLimits {
  /**
   * The share of time in which I/O is outstanding, whole, 1 to 100: the meaning of the kernel's throttle. It holds within 5
   * points for I/O that is shorter than 50 ms.
   */
  percent?: number;
  /**
   * Bytes a second, whole, at least 1. Each byte of a source counts once, however many destinations there are; of zeroes, each
   * byte of the region. It holds within 5 % over 10 s.
   */
  bytesPerSecond?: number;
  /** Requests to devices a second, whole, at least 1: every read, write, flush and zeroing counts. Within 5 % over 10 s. */
  iops?: number;
}

/** How {@link KcopydClient.copy} and {@link KcopydClient.zero} do a job. */
export interface JobOptions {
  /**
   * Attempts every piece on every destination, whatever fails (DM_KCOPYD_IGNORE_ERROR, P14); what cannot be read arrives as
   * zeros and is listed in `failures` (P8). The job rejects all the same. Default: false, the first error ends the job.
   */
  ignoreErrors?: boolean;
  /**
   * Issues each destination's writes in ascending order (DM_KCOPYD_WRITE_SEQ): the next one when the one before it has
   * completed, while reads run ahead (P15). For zoned and tape-like devices; it costs speed. The first error ends the job,
   * also with `ignoreErrors` (P14). Default: false.
   */
  sequential?: boolean;
  /** Makes every destination durable (fdatasync) before the job completes. Default: false. */
  flush?: boolean;
  /**
   * Aborts the job: no new piece is begun, and the promise rejects with an `AbortError` that carries the outcome once those
   * in flight have landed (P27). A job that was complete before the abort took effect resolves.
   */
  signal?: AbortSignal;
  /**
   * Told how far the job is: at most ten times a second, and always a last time before the promise settles. What it throws
   * surfaces as an uncaught exception, and the job goes on.
   */
  onProgress?: (progress: Progress) => void;
}

/** How far a job is. */
export interface Progress {
  /** Sectors of the source that are done with, on every destination. */
  sectorsDone: number;
  /** Sectors of the whole job. */
  sectorsTotal: number;
  /** Bytes of the source a second: over the last two seconds; the last time, over the whole job. */
  bytesPerSecond: number;
  /** Milliseconds that the rest takes at this rate; null if nothing moves, 0 at the end of a whole job. */
  etaMs: number | null;
  /** Each destination, in order. */
  destinations: {
    /** Sectors that are done with there. */
    sectorsDone: number;
    /** Whether anything there has failed. */
    failed: boolean;
  }[];
}

/** One thing that failed. Adjacent equal ones are one. */
export interface Failure {
  /** What was attempted. */
  op: 'read' | 'write' | 'flush' | 'zero';
  /** The destination, from 0; null: the source. */
  destination: number | null;
  /** The first sector concerned, counted on the device that failed. */
  sector: number;
  /** How many sectors. A failed flush concerns the whole region. */
  count: number;
  /** The errno's name: `EIO`, `ENOSPC`, … */
  code: string;
  /** The errno, **positive** here. */
  errno: number;
}

/** What a job came to. */
export interface Outcome {
  /**
   * The contiguous prefix, in sectors, that is known to hold the source's bytes in every destination: a lower bound. A part
   * filled with zeros for an unreadable source does not count.
   */
  sectors: number;
  /** The same in bytes: exact, also where a source file ends within a sector. */
  bytes: number;
  /** 0, or the errno (positive) of the first read error; without one, ECANCELED after an abort, ENOTRECOVERABLE after P32. */
  readErr: number;
  /** Bit i is set if and only if a write, zero or flush to destination i failed (P12). Unsigned: 0 to 2^32 - 1. */
  writeErr: number;
  /** What failed, at most 1,000 entries. */
  failures: Failure[];
  /** How many more failures there were. */
  failuresOmitted: number;
  /** What each destination holds, in order. */
  destinations: {
    /** The contiguous prefix, in sectors, that is known to hold the source's bytes: a lower bound. */
    sectors: number;
    /** Whether it holds the whole region, and has been flushed if that was asked. */
    ok: boolean;
  }[];
  /** Milliseconds from submitting to completion, without opening and closing. */
  durationMs: number;
}

/**
 * A completion callback: the kernel's `kcopyd_notify_fn`.
 *
 * @param readErr - 0, or as in {@link Outcome.readErr}.
 * @param writeErr - 0, or as in {@link Outcome.writeErr}. Both are 0 if and only if every destination is complete (P17).
 * @param context - What was handed to the submitting call, untouched.
 */
export type NotifyFn<C> = (readErr: number, writeErr: number, context: C) => void;

/** Counters of a client, since it was created. Plain numbers. */
export interface ClientStats {
  /** What executes its jobs. */
  engine: {
    /** Which one. */
    kind: 'io_uring' | 'threads';
    /** Why that one, and what it does without, in words. */
    reason: string;
    /** Whether the pages are registered with the kernel as fixed buffers. */
    registeredBuffers: boolean;
  };
  /** Its pool, in pages of 4096 bytes. */
  pages: {
    /** As many as were asked for. */
    total: number;
    /** Those that no job uses now. */
    free: number;
  };
  /** Jobs that are over. */
  jobs: number;
  /** Sub-jobs that are over: the pieces, of at most `subJobSectors`, that the jobs were cut into. */
  subJobs: number;
  /** Bytes of these sub-jobs; each byte of a source counts once. */
  bytes: number;
  /** Batches of requests handed to the engine. */
  submissions: number;
  /** Bytes of regions made zero. Each destination counts for itself. */
  zero: {
    /** By the device or file system itself. */
    offloadedBytes: number;
    /** By writing zeros, where it refused. */
    writtenBytes: number;
  };
}

/** What this machine can run. */
export interface Support {
  /** Operating system, processor and C library, such as `linux-x64-gnu`. */
  platform: string;
  /** The best engine that runs here; null if none does. */
  engine: 'io_uring' | 'threads' | null;
  /** Why that one, or why none. */
  reason: string;
  /** The kernel's release. */
  kernel: string;
}

/**
 * Flag of {@link KcopydClient.submitCopy} and {@link KcopydClient.submitZero}: as {@link JobOptions.ignoreErrors}
 * (DM_KCOPYD_IGNORE_ERROR).
 */
export const IGNORE_ERROR: number = FLAG_IGNORE_ERROR;
/** Flag of the same: as {@link JobOptions.sequential} (DM_KCOPYD_WRITE_SEQ). */
export const WRITE_SEQ: number = FLAG_WRITE_SEQ;

/** An opened block device or regular file. Made by {@link Device.open}; closed by {@link Device.close}. */
export class Device {
  static {
    giveSight((value) => (#inside in value ? (value as Device).#inside : undefined));
  }

  readonly #inside: OpenDevice;
  /** The path that it was opened by. */
  readonly path: string;
  /** What it is. A file grows when it is written past its end. */
  readonly kind: 'block' | 'file';
  /** The unit in which it moves, in bytes, 512 to 4096: a block device's regions are multiples of it (P9). */
  readonly logicalBlockSize: number;
  /** The unit that the medium itself writes, in bytes: advice, nothing is refused for it. */
  readonly physicalBlockSize: number;
  /** Whether data goes past the page cache (O_DIRECT). */
  readonly direct: boolean;
  /** Why it does or does not, in words. */
  readonly directReason: string;

  private constructor(inside: OpenDevice) {
    // Types do not keep JavaScript from calling this.
    if (!(inside instanceof OpenDevice)) throw notConstructible('Device', 'Device.open()');
    const { native, path } = inside;
    this.#inside = inside;
    this.path = path;
    this.kind = native.kind;
    this.logicalBlockSize = native.logicalBlockSize;
    this.physicalBlockSize = native.physicalBlockSize;
    this.direct = native.direct;
    this.directReason = native.directReason;
  }

  /**
   * Opens a block device or a regular file, once, and judges it by its descriptor alone.
   *
   * @param path - A path, a `file:` URL, or the bytes of a path.
   * @returns Rejects with the system's error (`ENOENT`, `EACCES`, `EROFS`, `EBUSY` with who uses it, …), with
   *   `ERR_KCOPYD_UNSUPPORTED_DEVICE` for anything else than a block device or a regular file and for a logical block above
   *   4096 bytes, with `ERR_KCOPYD_UNEXPECTED_DEVICE` if it is not the one that `expect` describes, and as
   *   {@link KcopydClient.create} does where the native part does not run.
   */
  static async open(path: string | URL | Buffer, options?: DeviceOptions): Promise<Device> {
    return new Device(await openDevice(path, options));
  }

  /** Its size now, in bytes: exact. The server of a file is asked for it and waited for. Of a closed device, the size known last. */
  get bytes(): number {
    return this.#inside.native.bytes();
  }

  /** Its size now in sectors of 512 bytes, a last part of one counting as one. */
  get sectors(): number {
    return Math.ceil(this.bytes / SECTOR_BYTES);
  }

  /**
   * Refuses new jobs (`ERR_KCOPYD_DEVICE_CLOSED`), waits for its own, on all clients, and resolves once it can be opened
   * exclusively again (P33). Every call is the same close. Rejects with the system's error if closing tells that something
   * written before is lost, as network file systems may; it is closed all the same.
   */
  close(): Promise<void> {
    return this.#inside.close();
  }

  /** The same as {@link Device.close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Holds jobs back, so that they leave room for others. Several clients may share one, and its limits may be changed while jobs
 * run. It can be made anywhere; it comes to life with the first client that has it.
 */
export class Throttle {
  static {
    giveSightOfThrottle((value) => (#inside in value ? (value as Throttle).#inside : undefined));
  }

  readonly #inside: SharedLimits;

  /** Throws `ERR_INVALID_ARG_TYPE` and `ERR_OUT_OF_RANGE`. */
  constructor(limits: ThrottleLimits) {
    this.#inside = new SharedLimits(limits);
  }

  /**
   * Other limits from now on, in place of all the ones before: one that is not named is none any more. Jobs that wait look
   * again within 100 ms. Throws as the constructor does, and changes nothing then.
   */
  set(limits: ThrottleLimits): void {
    this.#inside.set(limits);
  }
}

/**
 * Copies ranges of sectors from one device to one or several others, within a fixed number of pages of memory. Made by
 * {@link KcopydClient.create}, ended by {@link KcopydClient.close}. An idle client does not keep the process alive; a job does.
 */
export class KcopydClient {
  readonly #inside: Client;

  private constructor(inside: Client) {
    if (!(inside instanceof Client)) throw notConstructible('KcopydClient', 'KcopydClient.create()');
    this.#inside = inside;
  }

  /**
   * Makes a client: `kcopyd_client_create`. Its pages are set aside now.
   *
   * @returns Rejects with `ERR_KCOPYD_UNSUPPORTED_PLATFORM`, `ERR_KCOPYD_BINDING_NOT_FOUND`,
   *   `ERR_KCOPYD_BINDING_LOAD_FAILED` or `ERR_KCOPYD_BINDING_MISMATCH` where the native part does not run, with
   *   `ERR_KCOPYD_ENGINE_UNAVAILABLE` if the named engine does not, with `ENOMEM` without the memory.
   */
  static async create(options?: ClientOptions): Promise<KcopydClient> {
    return new KcopydClient(await Client.create(options));
  }

  /**
   * Copies `from` to every region of `to`, 1 to 32 of them: `kcopyd_copy` with a promise. If all devices are opened ones, the
   * job is submitted before this returns. Jobs in flight have no order between them, and overlapping ones are the caller's
   * to order (P4).
   *
   * @returns Resolves if and only if every sector reached every destination, and was flushed if asked. Rejects with a
   *   {@link KcopydError}; once the job has begun it carries the whole {@link Outcome}. Before any I/O:
   *   `ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE`, `ERR_KCOPYD_ALIGNMENT`, `ERR_KCOPYD_OVERLAP`, `ERR_KCOPYD_BOUNDS`,
   *   `ERR_KCOPYD_CLOSED`, `ERR_KCOPYD_DEVICE_CLOSED`, or why a path cannot be opened. Never throws.
   */
  copy(from: IoRegion, to: IoRegion | readonly IoRegion[], options?: JobOptions): Promise<Outcome> {
    return copy(this.#inside, from, to, options);
  }

  /**
   * The kernel's own shape, `kcopyd_copy`: opened Devices only, no promise. Every refusal, a closed client included, is thrown
   * at once; once this returns, `notify` is called exactly once, later, on success, error, and close alike (P1, P2).
   *
   * Calls of one client's callbacks never overlap. A callback may submit the next job, and may close the client. What it
   * throws surfaces as an uncaught exception, and the other completions are delivered all the same.
   *
   * @param flags - {@link IGNORE_ERROR}, {@link WRITE_SEQ}, both or-ed, or 0.
   * @param context - Handed to `notify` untouched.
   */
  submitCopy<C>(from: IoRegion, to: readonly IoRegion[], flags: number, notify: NotifyFn<C>, context?: C): void {
    submitCopy(this.#inside, from, to, flags, notify, context);
  }

  /**
   * Makes every region of `to` zero, 1 to 32 of them: `dm_kcopyd_zero` with a promise. By the device itself where it can
   * (FALLOC_FL_ZERO_RANGE, BLKZEROOUT), else by writing zeros; {@link ClientStats.zero} tells which. Every region names
   * its `count`, and all the same: nobody wipes a disk by omission.
   *
   * @returns As {@link KcopydClient.copy}; failures have the op `'zero'`, whichever way was taken.
   */
  zero(to: IoRegion | readonly IoRegion[], options?: JobOptions): Promise<Outcome> {
    return zero(this.#inside, to, options);
  }

  /** The same in the kernel's shape, `dm_kcopyd_zero`: see {@link KcopydClient.submitCopy}. */
  submitZero<C>(to: readonly IoRegion[], flags: number, notify: NotifyFn<C>, context?: C): void {
    submitZero(this.#inside, to, flags, notify, context);
  }

  /**
   * A completion that the caller makes itself: `dm_kcopyd_prepare_callback`. The function that it returns is
   * `dm_kcopyd_do_callback`: called once, from anywhere, it has `notify` called as a job's completion would be, later, never
   * while another callback of this client runs, after the completions that are due already, and in the order of the calls.
   *
   * Its `readErr` is whole and not negative, its `writeErr` whole and at most 2^32 - 1, else it throws and may be called
   * again; a second call throws `ERR_KCOPYD_ALREADY_CALLED`. {@link KcopydClient.close} waits for what was called before and
   * not for one that is never called; one that is called after the close still delivers, as there is nobody else to.
   * Throws `ERR_KCOPYD_CLOSED` for a client that is closed or closing.
   */
  prepareCallback<C>(notify: NotifyFn<C>, context?: C): (readErr: number, writeErr: number) => void {
    return prepareCallback(this.#inside, notify, context);
  }

  /**
   * Resolves when every completion that was due when it was called has been delivered: `dm_kcopyd_client_flush`. It waits
   * for no I/O and makes nothing durable; that is {@link JobOptions.flush}. On a closed client it resolves as well. Never
   * rejects.
   */
  delivered(): Promise<void> {
    return new Promise((resolve) => this.#inside.deliverLater(resolve));
  }

  /** Its counters now; also of a closed client. */
  get stats(): ClientStats {
    return this.#inside.stats;
  }

  /** Jobs in flight keep the process alive, as they do from the start. */
  ref(): this {
    this.#inside.keepAlive(true);
    return this;
  }

  /** Jobs in flight do not keep the process alive: it may end in their middle. */
  unref(): this {
    this.#inside.keepAlive(false);
    return this;
  }

  /**
   * Refuses new jobs (`ERR_KCOPYD_CLOSED`), waits for all jobs, then releases the pages: `kcopyd_client_destroy`. Afterwards no
   * thread, descriptor or page is left (P24). Every call is the same close. It waits as long as a device takes to answer.
   */
  close(): Promise<void> {
    return this.#inside.close();
  }

  /** The same as {@link KcopydClient.close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** What this machine can run, and why. Never throws. */
export function support(): Support {
  return lookAround();
}
