// Gets together what all four binaries are built with, on any x64 or arm64 Debian: zig as the linker, with the start-up files and
// symbol lists of every libc; cargo-zigbuild, which drives it; and a Rust that has its standard library's source, so that the
// library can be built for any target. It installs what it may and says in one line what to install where it may not.
import { accessSync, constants, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { output, run } from '../../test/support/command.js';
import { programs } from '../../test/support/machine.js';
import { say } from './say.js';

/** Both from PyPI. zig's version decides which libc a binary is linked to, so it is fixed. */
const ZIG = '0.17.1';
const ZIGBUILD = '0.24.1';
/** A current Rust with its source, in Debian's security updates (it is there for browsers). */
const RUST_PACKAGES = ['rustc-web', 'cargo-web', 'rust-web-src'];
const INSTALL_MS = 600_000;

/** Where the tools are. */
export interface Tools {
  readonly cargo: string;
  readonly rustc: string;
  readonly zig: string;
  readonly zigbuild: string;
  /** For people: which versions. */
  readonly versions: string;
}

/** Everything, installed if it is not here yet. */
export async function findTools(root: string): Promise<Tools> {
  const rust = await findRust();
  const python = join(root, 'target', 'zig', `${ZIG}-${ZIGBUILD}`);
  if (!existsSync(python)) await installZig(python);
  const zig = join(python, 'ziglang', 'zig');
  const versions = [await output(rust.rustc, ['--version']), `zig ${await output(zig, ['version'])}`].join(', ');
  return {
    ...rust,
    zig,
    zigbuild: join(python, 'bin', 'cargo-zigbuild'),
    versions: `${versions}, cargo-zigbuild ${ZIGBUILD}`,
  };
}

async function installZig(into: string): Promise<void> {
  if (!(await hasPip())) await install(['python3-pip']);
  const wanted = [`ziglang==${ZIG}`, `cargo-zigbuild==${ZIGBUILD}`];
  say(`installing ${wanted.join(' ')} (pip), to link with`);
  mkdirSync(dirname(into), { recursive: true });
  const part = `${into}.part`;
  rmSync(part, { recursive: true, force: true });
  await output('python3', ['-m', 'pip', 'install', '--quiet', '--no-deps', '--target', part, ...wanted], {
    timeoutMs: INSTALL_MS,
  });
  renameSync(part, into);
}

async function hasPip(): Promise<boolean> {
  if (!programs('python3').available) return false;
  return (await run('python3', ['-m', 'pip', '--version'])).code === 0;
}

/** The first Rust that has its standard library's source: the one in use, else Debian's. */
async function findRust(): Promise<{ cargo: string; rustc: string }> {
  const debian = { cargo: '/usr/bin/cargo', rustc: '/usr/bin/rustc' };
  const inUse = await toolchainInUse();
  if (inUse && (await hasSource(inUse.rustc))) return inUse;
  if (isRunnable(debian.rustc) && isRunnable(debian.cargo) && (await hasSource(debian.rustc))) return debian;
  await install(RUST_PACKAGES, 'or, with rustup: rustup component add rust-src');
  if (!(await hasSource(debian.rustc))) throw new Error(`${debian.rustc} has no source in its sysroot`);
  return debian;
}

/** The programs themselves, not rustup's stand-ins: cargo-zigbuild is to find exactly these two beside each other. */
async function toolchainInUse(): Promise<{ cargo: string; rustc: string } | undefined> {
  if (!programs('rustc', 'cargo').available) return undefined;
  const sysroot = await output('rustc', ['--print', 'sysroot']);
  const found = { cargo: join(sysroot, 'bin', 'cargo'), rustc: join(sysroot, 'bin', 'rustc') };
  return isRunnable(found.cargo) && isRunnable(found.rustc) ? found : undefined;
}

async function hasSource(rustc: string): Promise<boolean> {
  const sysroot = await output(rustc, ['--print', 'sysroot']);
  return existsSync(join(sysroot, 'lib/rustlib/src/rust/library/std/Cargo.toml'));
}

function isRunnable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Installs Debian packages, or says that they are wanted. */
export async function install(packages: readonly string[], otherwise: string = ''): Promise<void> {
  const how = `apt-get install --no-install-recommends ${packages.join(' ')}${otherwise && ` (${otherwise})`}`;
  if (process.geteuid?.() !== 0 || !programs('apt-get').available)
    throw new Error(`not installed here; as root: ${how}`);
  say(`installing ${packages.join(' ')} (apt-get)`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const options = { timeoutMs: INSTALL_MS, env };
  const args = ['-o', 'DPkg::Lock::Timeout=120', 'install', '--yes', '--quiet', '--no-install-recommends', ...packages];
  // Lists that are there already may do; asking for new ones takes longer than all the rest.
  if ((await run('apt-get', args, options)).code === 0) return;
  await run('apt-get', ['update', '--quiet'], options);
  const { code, stderr } = await run('apt-get', args, options);
  if (code !== 0) throw new Error(`${how}: exit ${code}: ${stderr.trim().split('\n').at(-1)}`);
}

/** Where cargo keeps what it has fetched. */
export function cargoHome(): string {
  return process.env.CARGO_HOME ?? join(homedir(), '.cargo');
}
