// Finds and types the native binding. This is the whole boundary between TypeScript and Rust: what is declared here is
// implemented by crates/kcopyd-node, and nothing else crosses. It refuses to know options, defaults and errors' classes:
// refusals cross as data, and src/errors.ts alone makes Errors of them. Importing it never fails; loading may.
import { createRequire } from 'node:module';

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

let loaded: Binding | undefined;

/** The binding, loaded on first use; or why there is none. A failure is not remembered: the next call tries again. */
export function loadBinding(): Binding | NativeError {
  if (loaded) return loaded;
  const result = load();
  if (!isNativeError(result)) loaded = result;
  return result;
}

const require: NodeJS.Require = createRequire(import.meta.url);

interface Candidate {
  readonly name: string;
  readonly load: () => unknown;
}

// Every require is a literal, so that bundlers and file tracers see what may be loaded. The local build comes first.
const CANDIDATES: Readonly<Record<string, readonly Candidate[]>> = {
  'linux-x64-gnu': [
    { name: 'native/kcopyd.linux-x64-gnu.node', load: () => require('#native/kcopyd.linux-x64-gnu.node') },
    { name: '@kcopyd/binding-linux-x64-gnu', load: () => require('@kcopyd/binding-linux-x64-gnu') },
  ],
  'linux-x64-musl': [
    { name: 'native/kcopyd.linux-x64-musl.node', load: () => require('#native/kcopyd.linux-x64-musl.node') },
    { name: '@kcopyd/binding-linux-x64-musl', load: () => require('@kcopyd/binding-linux-x64-musl') },
  ],
  'linux-arm64-gnu': [
    { name: 'native/kcopyd.linux-arm64-gnu.node', load: () => require('#native/kcopyd.linux-arm64-gnu.node') },
    { name: '@kcopyd/binding-linux-arm64-gnu', load: () => require('@kcopyd/binding-linux-arm64-gnu') },
  ],
  'linux-arm64-musl': [
    { name: 'native/kcopyd.linux-arm64-musl.node', load: () => require('#native/kcopyd.linux-arm64-musl.node') },
    { name: '@kcopyd/binding-linux-arm64-musl', load: () => require('@kcopyd/binding-linux-arm64-musl') },
  ],
};

function load(): Binding | NativeError {
  const platform =
    process.platform === 'linux' ? `linux-${process.arch}-${libc()}` : `${process.platform}-${process.arch}`;
  const candidates = CANDIDATES[platform];
  if (!candidates) return refusal('ERR_KCOPYD_UNSUPPORTED_PLATFORM', unsupportedText(platform));
  const chosen = process.env.NAPI_RS_NATIVE_LIBRARY_PATH;
  if (chosen) return tryAll([{ name: chosen, load: () => require(chosen) }]);
  return tryAll(candidates);
}

/** The first candidate that loads. One that exists and does not load ends the search: the next would only hide the reason. */
function tryAll(candidates: readonly Candidate[]): Binding | NativeError {
  for (const { name, load } of candidates) {
    try {
      return load() as Binding;
    } catch (error) {
      if (!isMissing(error)) return refusal('ERR_KCOPYD_BINDING_LOAD_FAILED', loadFailedText(name, error));
    }
  }
  return refusal('ERR_KCOPYD_BINDING_NOT_FOUND', notFoundText(candidates));
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.code === 'MODULE_NOT_FOUND';
}

interface Report {
  readonly header: { readonly glibcVersionRuntime?: string };
}

/** Which C library Node itself runs on: only glibc puts its version into the report. */
function libc(): 'gnu' | 'musl' {
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean };
  const before = report.excludeNetwork;
  // Without this the report looks up the name of every peer of every socket.
  report.excludeNetwork = true;
  const { header } = report.getReport() as unknown as Report;
  report.excludeNetwork = before ?? false;
  return header.glibcVersionRuntime ? 'gnu' : 'musl';
}

function refusal(code: string, message: string): NativeError {
  return { code, message, errno: 0, syscall: null, path: null, destination: null };
}

function unsupportedText(platform: string): string {
  return `kcopyd has no native part for ${platform}: it runs on Linux, on x64 and arm64, with glibc or musl`;
}

function loadFailedText(name: string, error: unknown): string {
  const cause = error instanceof Error ? error.message : String(error);
  const cure = /GLIBC_\d/.test(cause)
    ? 'it needs a newer glibc than this system has: use a newer system, or build from source (npm run build in a checkout)'
    : 'reinstall it (npm ci, without copying node_modules between systems), or build from source (npm run build in a checkout)';
  return `kcopyd's native part ${name} is there but does not load: ${cause}; ${cure}`;
}

function notFoundText(candidates: readonly Candidate[]): string {
  const names = candidates.map(({ name }) => name).join(' nor ');
  return (
    `kcopyd's native part is not there (neither ${names}): in a checkout run npm run build; where kcopyd is installed, ` +
    'its optional dependencies were left out, or the lock file was made on another system by npm older than 11.3: see ' +
    'npm ls kcopyd, then install again with npm install --include=optional'
  );
}
