// The platforms that kcopyd has binaries for, as package.json's `napi` section lists them, and what follows from each name: the
// package, the file, the targets of the compilers. It reads package.json and knows nothing of building or packing.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** One platform. */
export interface Platform {
  /** As npm's packages call it: `linux-x64-gnu`. */
  readonly name: string;
  /** As Rust calls it: `x86_64-unknown-linux-gnu`. */
  readonly target: string;
  readonly cpu: 'x64' | 'arm64';
  readonly libc: 'glibc' | 'musl';
  /** Its package: `@kcopyd/binding-linux-x64-gnu`. */
  readonly packageName: string;
  /** Its binary: `kcopyd.linux-x64-gnu.node`. */
  readonly binary: string;
}

/** What package.json says, as far as the scripts here look at it. */
export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly napi: { readonly binaryName: string; readonly packageName: string; readonly targets: readonly string[] };
  readonly [field: string]: unknown;
}

const CPUS: Readonly<Record<string, Platform['cpu']>> = { x86_64: 'x64', aarch64: 'arm64' };

/** The checkout's package.json. */
export function readManifest(root: string): Manifest {
  return JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest;
}

/** Every platform, in the order of package.json. */
export function platformsOf({ napi }: Manifest): readonly Platform[] {
  return napi.targets.map((target) => {
    const [, machine = '', abi = ''] = /^(\w+)-unknown-linux-(gnu|musl)$/.exec(target) ?? [];
    const cpu = CPUS[machine];
    if (!cpu) throw new Error(`package.json: napi.targets names ${target}, which is not known here`);
    const name = `linux-${cpu}-${abi}`;
    return {
      name,
      target,
      cpu,
      libc: abi === 'gnu' ? 'glibc' : 'musl',
      packageName: `${napi.packageName}-${name}`,
      binary: `${napi.binaryName}.${name}.node`,
    };
  });
}

/** The platforms that are named, or all of them if none is; `host` is the machine's own. */
export function choose(platforms: readonly Platform[], names: readonly string[]): readonly Platform[] {
  if (names.length === 0) return platforms;
  return names.map((name) => {
    const wanted = name === 'host' ? hostName() : name;
    const found = platforms.find((platform) => platform.name === wanted);
    if (!found)
      throw new Error(`no platform ${name}: there are ${platforms.map((one) => one.name).join(', ')} and host`);
    return found;
  });
}

function hostName(): string {
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean };
  // Without this the report looks up the name of every peer of every socket.
  report.excludeNetwork = true;
  const { header } = report.getReport() as unknown as { header: { glibcVersionRuntime?: string } };
  return `linux-${process.arch}-${header.glibcVersionRuntime ? 'gnu' : 'musl'}`;
}
