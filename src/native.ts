// The types of the native binding. This is the whole boundary between TypeScript and Rust: what is declared here is
// implemented by crates/kcopyd-node, and nothing else crosses. It refuses to know options, defaults and errors' classes:
// refusals cross as data, and src/errors.ts alone makes Errors of them. How the binding is found is src/loader.ts's matter.

/** A refusal or a failure, as data. */
export interface NativeError {
  /** `ERR_…`, or empty for a system error, whose code is the name of its errno. */
  readonly code: string;
  /** What happened and what to do about it. */
  readonly message: string;
  /** The positive errno, or 0. */
  readonly errno: number;
  /** The system call that said no. */
  readonly syscall: string | null;
  /** The path that it was about. */
  readonly path: string | null;
  /** The destination that it was about, from 0. */
  readonly destination: number | null;
  /** What the loader met. Nothing that crosses has it. */
  readonly cause?: unknown;
}

/** What a device is opened for. */
export type NativeAccess = 'read' | 'write' | 'read-write';

/** Options of `openDevice`; nothing has a default here. */
export interface NativeDeviceOptions {
  readonly access: NativeAccess;
  readonly direct: 'auto' | 'always' | 'never';
  /** `null`: as a device of this kind and access is usually opened. */
  readonly exclusive: boolean | null;
  readonly create: boolean;
  readonly expectRdev: number | null;
  readonly expectSize: number | null;
  readonly expectDiskSequence: number | null;
}

/** An opened device. If it is collected without `closeDevice`, its descriptors are closed once no job uses them. */
export interface NativeDevice {
  /** Names the device in `submit`; unique in the process and never used again. */
  readonly handle: number;
  readonly kind: 'block' | 'file';
  readonly logicalBlockSize: number;
  readonly physicalBlockSize: number;
  readonly direct: boolean;
  readonly directReason: string;
  /** Its size now, in bytes; of a closed device, the size known last. */
  bytes(): number;
}

/** One entry of an outcome's `failures`. */
export interface NativeFailure {
  readonly op: 'read' | 'write' | 'flush' | 'zero';
  /** `null`: the source. */
  readonly destination: number | null;
  readonly sector: number;
  readonly count: number;
  readonly errno: number;
}

/** What a job came to. */
export interface NativeOutcome {
  readonly sectors: number;
  readonly bytes: number;
  readonly readErr: number;
  readonly writeErr: number;
  readonly aborted: boolean;
  /** Whether the client broke inside (P32); it takes no more jobs then. */
  readonly poisoned: boolean;
  readonly failures: NativeFailure[];
  readonly failuresOmitted: number;
  readonly destinations: { readonly sectors: number; readonly ok: boolean }[];
}

/** The counters of a client. */
export interface NativeStats {
  readonly engine: {
    readonly kind: 'io_uring' | 'threads';
    readonly reason: string;
    readonly registeredBuffers: boolean;
  };
  readonly pages: { readonly total: number; readonly free: number };
  readonly jobs: number;
  readonly subJobs: number;
  readonly bytes: number;
  readonly submissions: number;
  /** Bytes that a device made zero by itself, and those that were written as zeros because it could not. */
  readonly zero: { readonly offloadedBytes: number; readonly writtenBytes: number };
}

/** Limits that clients may share; `null` is no limit. A client holds on to it by itself. */
export interface NativeThrottle {
  /** Other limits from now on: 1 to 100; at least 1; at least 1. */
  set(percent: number | null, bytesPerSecond: number | null, iops: number | null): void;
}

/** Options of `createClient`; nothing has a default here. */
export interface NativeClientOptions {
  readonly pages: number;
  readonly subJobSectors: number;
  readonly engine: 'auto' | 'io_uring' | 'threads';
  readonly throttle: NativeThrottle | null;
}

/** Flag of a job: attempt everything everywhere (the kernel's bit). */
export const FLAG_IGNORE_ERROR = 2;
/** Flag of a job: each destination's writes in ascending order (the kernel's bit). */
export const FLAG_WRITE_SEQ = 4;
/** Flag of a job, private: fdatasync every destination before completion. */
export const FLAG_FLUSH = 256;
/** Flag of a job, private: keep counters for `progress`. */
export const FLAG_PROGRESS = 512;

/** The source handle of a job that writes zeroes. Every destination of such a job must name its count. */
export const ZEROES = 0;

/** Numbers of one completion in `drain`: token, readErr, writeErr, detail. */
export const RECORD_NUMBERS = 4;

/** A client. If it is collected without `close`, it is closed, and its thread ends after its last job. */
export interface NativeClient {
  /**
   * Submits a job; never blocks, does no I/O.
   *
   * In: `[token, flags, sourceHandle, sourceSector, sourceCount, destinations, (handle, sector, count) …]`; a count of -1 is
   * the default, and a source handle of `ZEROES` asks for zeroes. The token is the caller's, a positive safe integer, unique among the client's jobs in flight.
   * Out, if accepted: `request[0]` is the job's length in sectors, `request[1]` in bytes.
   */
  submit(request: Float64Array): NativeError | null;
  /**
   * Takes completions: fills `[token, readErr, writeErr, detail] …` and returns how many. `detail` is 0 for a full success,
   * and 1 for anything else: then `outcome` has the rest. A record with token 0 says that the client is closed and that
   * everything is released; it is the last one.
   */
  drain(into: Float64Array): number;
  /** The outcome of a completion with detail 1 (`null` for any other, and the second time). */
  outcome(token: number): NativeOutcome | null;
  /** Stops new sub-jobs of a job; it completes when those in flight have landed. Unknown tokens are ignored. */
  abort(token: number): void;
  /**
   * Looks at a job with `FLAG_PROGRESS`: `[sectorsDone, (sectorsDone, failed 0 | 1) …]`, one pair per destination. False if
   * the job has been drained already.
   */
  progress(token: number, into: Float64Array): boolean;
  stats(): NativeStats;
  /** The doorbell keeps the event loop alive from now on. A client begins unref'ed. */
  ref(): void;
  /** The doorbell keeps the event loop alive no longer. */
  unref(): void;
  /** No more jobs; after the last one everything is released, and the record with token 0 says so. Idempotent. */
  close(): void;
}

/** The native module. */
export interface Binding {
  /** The version of the package that it was built for: it works with no other. */
  version(): string;
  support(): { platform: string; engine: 'io_uring' | 'threads' | null; reason: string; kernel: string };
  /** Opens a device, on libuv's pool. A path is bytes: the names of files need not be UTF-8. */
  openDevice(path: Uint8Array, options: NativeDeviceOptions): Promise<NativeDevice | NativeError>;
  /** A device on a duplicate of the caller's descriptor. */
  adoptDescriptor(fd: number, access: NativeAccess): NativeDevice | NativeError;
  /** Every client forgets the device, then its descriptors are closed; resolves once it can be opened exclusively again. */
  closeDevice(device: NativeDevice): Promise<NativeError | null>;
  /** Makes a client. `doorbell` is called when there is something to drain; it must drain until nothing is left. */
  createClient(options: NativeClientOptions, doorbell: () => void): Promise<NativeClient | NativeError>;
  /** Makes a throttle, to be given to `createClient`. */
  createThrottle(percent: number | null, bytesPerSecond: number | null, iops: number | null): NativeThrottle;
}

/** Whether a value that crossed the boundary is a refusal. */
export function isNativeError(value: object | null): value is NativeError {
  return value !== null && 'errno' in value && 'message' in value;
}
