// Why there is no native binding, in words that name the package, the cause and the cure. It refuses to look for it: that is
// src/loader.ts's matter.
import type { NativeError } from './native.js';
import { VERSION } from './version.js';

const VARIABLE = 'KCOPYD_NATIVE_LIBRARY_PATH';
const FROM_SOURCE = 'build from source (npm run build in a checkout)';

function refusal(code: string, message: string, cause?: unknown): NativeError {
  const plain: NativeError = { code, message, errno: 0, syscall: null, path: null, destination: null };
  return cause === undefined ? plain : { ...plain, cause };
}

/** There is no native part for this platform at all. */
export function unsupported(platform: string): NativeError {
  const message =
    `kcopyd has no native part for ${platform}: it runs on Linux, on x64 and arm64, with glibc or musl. ` +
    'Run it on such a machine, in a virtual machine, or in a container on one; importing it is harmless everywhere';
  return refusal('ERR_KCOPYD_UNSUPPORTED_PLATFORM', message);
}

/** There is one for this platform, but not here; the packages of `others` are. */
export function missing(platform: string, others: readonly string[]): NativeError {
  const wanted = `@kcopyd/binding-${platform}@${VERSION}`;
  const cause =
    others.length > 0
      ? `@kcopyd/binding-${others.join(' and ')} is there instead, so node_modules comes from another system: do not copy it`
      : 'optional dependencies were left out (--omit=optional), or a lock file of another system was made by npm older than 11.3';
  const message =
    `kcopyd's native part for ${platform} is not there (neither the package ${wanted} nor a local build): ${cause}; ` +
    'install again here with npm install --include=optional (npm ls kcopyd shows what there is), or in a checkout of kcopyd ' +
    'run npm run build';
  return refusal('ERR_KCOPYD_BINDING_NOT_FOUND', message);
}

/** The file that the environment names is not there. */
export function missingChosen(path: string): NativeError {
  const message = `kcopyd's native part ${path}, which ${VARIABLE} names, is not there: name another file, or unset it`;
  return refusal('ERR_KCOPYD_BINDING_NOT_FOUND', message);
}

/** It loads, and is of another version (undefined: is no binding of kcopyd at all). */
export function mismatched(name: string, version: string | undefined): NativeError {
  const theirs = version === undefined ? "no native part of kcopyd's" : `of version ${version}`;
  const message =
    `kcopyd ${VERSION} does not work with ${name}, which is ${theirs}: both must be of one version. Install kcopyd again ` +
    `without overrides for @kcopyd packages, in a checkout run npm run build, and see that ${VARIABLE} is not set`;
  return refusal('ERR_KCOPYD_BINDING_MISMATCH', message);
}

/** It is there, and does not load. */
export function damaged(name: string, cause: unknown): NativeError {
  const words = (cause instanceof Error ? cause.message : String(cause)).trim();
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  const message = `kcopyd's native part ${name} is there but does not load: ${words}; ${cure(words, code)}`;
  return refusal('ERR_KCOPYD_BINDING_LOAD_FAILED', message, cause);
}

/** What helps, by what the dynamic loader (of glibc, of musl) or Node says. */
const CURES: readonly (readonly [said: RegExp, cure: string])[] = [
  [
    /GLIBC_\d/,
    `it needs a newer glibc than this system has (ldd --version): use a newer system or image, or ${FROM_SOURCE}`,
  ],
  [
    /\.so[.\d]*: cannot open shared object file|Error loading shared library|Error relocating/,
    'it was made for another C library (glibc, musl) than this system has, or needs a library that is not installed: install ' +
      'again on this very system, without copying node_modules',
  ],
  [
    /failed to map segment/,
    'its file system is mounted noexec, or a security policy forbids to run it: move node_modules to where code may run',
  ],
  [
    /invalid ELF header|file too short|wrong ELF class|ELF file|Exec format error|it ends after|another processor|did not self-register/,
    'the file is damaged, or for another processor: install again with npm ci, without copying node_modules between systems',
  ],
  [/permission denied/i, 'this user may not read it: see the permissions of the file and of the folders above it'],
];

function cure(words: string, code: string | undefined): string {
  if (code === 'ERR_DLOPEN_DISABLED') {
    return 'Node was started without native addons: leave out --no-addons, or with --permission add --allow-addons';
  }
  if (code === 'ERR_ACCESS_DENIED')
    return 'Node was started with --permission: allow it to read the folder (--allow-fs-read)';
  const known = CURES.find(([said]) => said.test(words));
  return known?.[1] ?? `install again with npm ci, without copying node_modules between systems, or ${FROM_SOURCE}`;
}
