// Builds the binary of each platform into npm/binaries, all of them in one way, wherever this runs: Rust's standard library is
// compiled for the target from its source, and zig links against the oldest glibc that Rust supports, or against musl.
// docs/RELEASING.md says why, and what else was tried. It knows nothing of packages.
import { copyFileSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../test/support/command.js';
import { choose, type Platform, platformsOf, readManifest } from './platforms.js';
import { bytes, say } from './say.js';
import { cargoHome, findTools, type Tools } from './tools.js';

/**
 * What Node's own binaries ask for, so no user is lost by it. A function that is newer than the glibc linked against would stay a name
 * without a version: the binary would look older than it is, and fail where it is loaded.
 */
const GLIBC = '2.28';
const BUILD_MS = 1_800_000;

/** Where the binaries are put. */
export function binariesDirectory(root: string): string {
  return join(root, 'npm', 'binaries');
}

/** Builds the platforms that are named, or all. */
export async function buildAll(root: string, names: readonly string[]): Promise<void> {
  const platforms = choose(platformsOf(readManifest(root)), names);
  const tools = await findTools(root);
  say(`${platforms.length} platforms, with ${tools.versions}`);
  mkdirSync(binariesDirectory(root), { recursive: true });
  for (const platform of platforms) await buildOne(root, platform, tools);
}

async function buildOne(root: string, platform: Platform, tools: Tools): Promise<void> {
  const began = Date.now();
  say(`building ${platform.binary} for ${platform.target}`);
  const command = ['zigbuild', '--release', '--package', 'kcopyd-node', '--lib'];
  const { directory } = await compileFor(root, platform, tools, command);
  const made = join(binariesDirectory(root), platform.binary);
  copyFileSync(join(directory, 'release', 'libkcopyd_node.so'), made);
  say(`built ${platform.binary}, ${bytes(statSync(made).size)}, in ${Math.round((Date.now() - began) / 1000)} s`);
}

/** Runs cargo-zigbuild for a platform; the directory with what it built, and what was printed. */
export async function compileFor(
  root: string,
  platform: Platform,
  tools: Tools,
  command: readonly string[],
  variables: NodeJS.ProcessEnv = {},
  programArguments: readonly string[] = [],
): Promise<{ directory: string; printed: string }> {
  const directory = join(root, 'target', 'platforms');
  const linked = platform.libc === 'glibc' ? `${platform.target}.${GLIBC}` : platform.target;
  // std without backtraces: the binary has no symbols to name in one, and the code to print it is a fifth of the whole.
  const library = ['-Zbuild-std=std,panic_unwind', '-Zbuild-std-features='];
  const args = [...command, '--locked', '--target', linked, ...library];
  if (programArguments.length > 0) args.push('--', ...programArguments);
  const env = {
    ...process.env,
    CARGO: tools.cargo,
    RUSTC: tools.rustc,
    // build-std is an unstable option; the compiler is a stable one of a known version.
    RUSTC_BOOTSTRAP: '1',
    CARGO_ZIGBUILD_ZIG_PATH: tools.zig,
    CARGO_TARGET_DIR: directory,
    CARGO_ENCODED_RUSTFLAGS: flags(root, platform).join('\x1f'),
    ...variables,
  };
  const { code, stderr, stdout } = await run(tools.zigbuild, args, { cwd: root, timeoutMs: BUILD_MS, env });
  if (code !== 0)
    throw new Error(`cargo-zigbuild ${args.join(' ')}: exit ${code}:\n${(stderr + stdout).slice(-6_000)}`);
  return { directory: join(directory, platform.target), printed: stdout };
}

function flags(root: string, { libc }: Platform): readonly string[] {
  // Panics name source files: by the project's names, not by where this machine keeps them.
  const renamed = [`--remap-path-prefix=${root}=kcopyd`, `--remap-path-prefix=${cargoHome()}=cargo`];
  // Rust links musl statically unless told otherwise; inside Node there must be one libc, Node's.
  return libc === 'musl' ? [...renamed, '-Ctarget-feature=-crt-static'] : renamed;
}
