// Finds the native binding, on first use, and judges whether it is this package's. Importing this never fails; loading may,
// and src/load_failure.ts says then what to do. It refuses to know what the binding is for.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { flawOf } from './elf.js';
import { damaged, mismatched, missing, missingChosen, unsupported } from './load_failure.js';
import { type Binding, isNativeError, type NativeError } from './native.js';
import { VERSION } from './version.js';

let loaded: Binding | undefined;

/** The binding, loaded on first use; or why there is none. A failure is not remembered: the next call tries again. */
export function loadBinding(): Binding | NativeError {
  if (loaded) return loaded;
  const result = load();
  if (!isNativeError(result)) loaded = result;
  return result;
}

/** Operating system, processor and C library, as the platform packages are named: `linux-x64-gnu`. */
export function platform(): string {
  const { platform: system, arch } = process;
  return system === 'linux' ? `linux-${arch}-${libc()}` : `${system}-${arch}`;
}

// In a bundle of CommonJS there is no import.meta.url, but a file name.
const require: NodeJS.Require = createRequire(import.meta.url || __filename);

interface Candidate {
  readonly name: string;
  /** Where it is; throws if it is not there. */
  readonly find: () => string;
}

// Every name is a literal, so that file tracers see what may be loaded. The local build comes first.
const CANDIDATES: Readonly<Record<string, readonly Candidate[]>> = {
  'linux-x64-gnu': [
    { name: 'native/kcopyd.linux-x64-gnu.node', find: () => require.resolve('#native/kcopyd.linux-x64-gnu.node') },
    { name: '@kcopyd/binding-linux-x64-gnu', find: () => require.resolve('@kcopyd/binding-linux-x64-gnu') },
  ],
  'linux-x64-musl': [
    { name: 'native/kcopyd.linux-x64-musl.node', find: () => require.resolve('#native/kcopyd.linux-x64-musl.node') },
    { name: '@kcopyd/binding-linux-x64-musl', find: () => require.resolve('@kcopyd/binding-linux-x64-musl') },
  ],
  'linux-arm64-gnu': [
    { name: 'native/kcopyd.linux-arm64-gnu.node', find: () => require.resolve('#native/kcopyd.linux-arm64-gnu.node') },
    { name: '@kcopyd/binding-linux-arm64-gnu', find: () => require.resolve('@kcopyd/binding-linux-arm64-gnu') },
  ],
  'linux-arm64-musl': [
    {
      name: 'native/kcopyd.linux-arm64-musl.node',
      find: () => require.resolve('#native/kcopyd.linux-arm64-musl.node'),
    },
    { name: '@kcopyd/binding-linux-arm64-musl', find: () => require.resolve('@kcopyd/binding-linux-arm64-musl') },
  ],
};

function load(): Binding | NativeError {
  // Its own name: NAPI_RS_NATIVE_LIBRARY_PATH is read by every package made with napi-rs, and would give this file to all.
  const chosen = process.env.KCOPYD_NATIVE_LIBRARY_PATH;
  if (chosen) {
    const path = resolve(chosen);
    return existsSync(path) ? loadFile(path, path) : missingChosen(path);
  }
  const here = platform();
  const candidates = CANDIDATES[here];
  if (!candidates) return unsupported(here);
  for (const { name, find } of candidates) {
    try {
      // One that is there and does not load ends the search: the next would only hide the reason.
      return loadFile(name, find());
    } catch (error) {
      if (!isMissing(error)) return damaged(name, error);
    }
  }
  return missing(here, installedFor());
}

// The second: in a bundle, whose package.json knows no #native.
const MISSING = new Set<unknown>(['MODULE_NOT_FOUND', 'ERR_PACKAGE_IMPORT_NOT_DEFINED']);

function isMissing(error: unknown): boolean {
  return MISSING.has((error as NodeJS.ErrnoException | undefined)?.code);
}

/** Whatever the file's name ends with, it is loaded as a library and never run as a script. */
function loadFile(name: string, path: string): Binding | NativeError {
  const module = { exports: {} };
  try {
    const flaw = flawOf(path);
    if (flaw) return damaged(name, new Error(flaw));
    process.dlopen(module, path);
  } catch (error) {
    return damaged(name, error);
  }
  return judged(name, module.exports);
}

/** Another version's functions may have the same names and mean other things by the same numbers. */
function judged(name: string, found: unknown): Binding | NativeError {
  const { version } = Object(found) as Partial<Binding>;
  const theirs = typeof version === 'function' ? version() : undefined;
  return theirs === VERSION ? (found as Binding) : mismatched(name, theirs);
}

/** The platforms whose packages are installed: not this one's, or this would not be asked. */
function installedFor(): string[] {
  return Object.keys(CANDIDATES).filter((platform) => {
    try {
      return require.resolve(`@kcopyd/binding-${platform}`) !== '';
    } catch {
      return false;
    }
  });
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
