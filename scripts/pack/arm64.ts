// The core's own tests, built for arm64 and run by QEMU's user mode: an arm64 processor on this kernel. QEMU has no io_uring there,
// so the threads carry every job; the ring is tried in the guest (guest.ts).
import { existsSync } from 'node:fs';
import { programs } from '../../test/support/machine.js';
import { compileFor } from './build.js';
import { inWords } from './musl.js';
import { type Platform, platformsOf, readManifest } from './platforms.js';
import type { Stage } from './rehearsal.js';
import { NotHere } from './steps.js';
import { findTools, install } from './tools.js';

/** Debian's libraries for programs of arm64, and where they are. */
const LIBRARIES = { package: 'libc6-arm64-cross', directory: '/usr/aarch64-linux-gnu' };
const TARGET = 'aarch64-unknown-linux-gnu';
/** Tests, by parts of their names, that say something of QEMU and not of kcopyd. */
const NOT_UNDER_QEMU: Readonly<Record<string, readonly string[]>> = {
  'no io_uring': [
    ...['uring::tests::', 'ring_waking::', 'fan_out_direct::', 'fan_out_buffered::', 'linked_direct::'],
    ...['linked_buffered::', 'plain_ring_direct::', 'plain_ring_buffered::'],
  ],
  "what /proc/self/smaps says is QEMU's": [
    'every_page_is_resident_before_its_first_use',
    'p31_an_arena_is_neither_inherited',
  ],
  'its statx says that direct I/O is aligned to nothing': [
    'a_block_device_moves_whole_logical_blocks_the_direct_way_only',
    'a_file_above_large_sectors_has_their_logical_block',
  ],
};

/** Builds and runs them. */
export async function tryArm64({ root, steps }: Stage): Promise<void> {
  await steps.take("arm64: the core's tests under qemu-aarch64", () => testCore(root));
}

/** The programs of the core's tests for arm64, by name; some of them are for the guest, which has io_uring. */
export async function coreTests(root: string, names: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const command = ['test', '--package', 'kcopyd', '--no-run', '--message-format=json', '--tests'];
  const { printed } = await compileFor(root, arm64(root), await findTools(root), command);
  const found = new Map<string, string>();
  for (const line of printed.split('\n').filter((text) => text.startsWith('{'))) {
    const { target, executable } = JSON.parse(line) as { target?: { name: string }; executable?: string | null };
    if (target && executable && names.includes(target.name)) found.set(target.name, executable);
  }
  return found;
}

function arm64(root: string): Platform {
  const platform = platformsOf(readManifest(root)).find(({ target }) => target === TARGET);
  if (!platform) throw new NotHere(`package.json does not name ${TARGET}`);
  return platform;
}

async function testCore(root: string): Promise<string> {
  if (process.arch !== 'x64') throw new NotHere(`this is ${process.arch} itself: npm test runs them`);
  if (!programs('qemu-aarch64').available || !existsSync(LIBRARIES.directory)) {
    await inWords('QEMU for arm64', () => install(['qemu-user', LIBRARIES.package]));
  }
  const runner = {
    [`CARGO_TARGET_${TARGET.toUpperCase().replaceAll('-', '_')}_RUNNER`]: `qemu-aarch64 -L ${LIBRARIES.directory}`,
  };
  const skipped = Object.values(NOT_UNDER_QEMU)
    .flat()
    .flatMap((name) => ['--skip', name]);
  const tests = ['test', '--package', 'kcopyd', '--tests', '--no-fail-fast'];
  const { printed } = await compileFor(root, arm64(root), await findTools(root), tests, runner, skipped);
  const counts = [...printed.matchAll(/test result: .* (\d+) passed; \d+ failed; .* (\d+) filtered out/g)];
  const sum = (group: number) => counts.reduce((total, match) => total + Number(match[group]), 0);
  if (sum(1) === 0) throw new Error(`no test ran: ${printed.slice(-2_000)}`);
  const why = Object.keys(NOT_UNDER_QEMU).join('; ');
  return `${sum(1)} passed, in ${counts.length} programs, on threads; ${sum(2)} left out, because of QEMU (${why})`;
}
