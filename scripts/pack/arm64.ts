// The core's own tests, built for arm64 and run by QEMU's user mode: an arm64 processor on this kernel. QEMU has no io_uring there,
// so the threads carry every job; the ring is tried in the guest (guest.ts).
import { existsSync } from 'node:fs';
import { programs } from '../../test/support/machine.js';
import { compileFor } from './build.js';
import { inWords } from './musl.js';
import { platformsOf, readManifest } from './platforms.js';
import type { Stage } from './rehearsal.js';
import { NotHere } from './steps.js';
import { findTools, install } from './tools.js';

/** Debian's libraries for programs of arm64, and where they are. */
const LIBRARIES = { package: 'libc6-arm64-cross', directory: '/usr/aarch64-linux-gnu' };
const TARGET = 'aarch64-unknown-linux-gnu';

/** Builds and runs them. */
export async function tryArm64({ root, steps }: Stage): Promise<void> {
  await steps.take("arm64: the core's tests under qemu-aarch64", () => testCore(root));
}

async function testCore(root: string): Promise<string> {
  if (process.arch !== 'x64') throw new NotHere(`this is ${process.arch} itself: npm test runs them`);
  if (!programs('qemu-aarch64').available || !existsSync(LIBRARIES.directory)) {
    await inWords('QEMU for arm64', () => install(['qemu-user', LIBRARIES.package]));
  }
  const platform = platformsOf(readManifest(root)).find(({ target }) => target === TARGET);
  if (!platform) throw new NotHere(`package.json does not name ${TARGET}`);
  const runner = {
    [`CARGO_TARGET_${TARGET.toUpperCase().replaceAll('-', '_')}_RUNNER`]: `qemu-aarch64 -L ${LIBRARIES.directory}`,
  };
  const what = ['--package', 'kcopyd', '--no-fail-fast'];
  const { printed } = await compileFor(root, platform, await findTools(root), ['test', ...what], runner);
  const counts = [...printed.matchAll(/test result: .* (\d+) passed; (\d+) failed; (\d+) ignored/g)];
  const sum = (group: number) => counts.reduce((total, match) => total + Number(match[group]), 0);
  if (sum(1) === 0) throw new Error(`no test ran: ${printed.slice(-2_000)}`);
  return `${sum(1)} passed, ${sum(3)} ignored, in ${counts.length} programs; on threads, QEMU's user mode has no io_uring`;
}
