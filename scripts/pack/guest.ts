// The whole package on arm64 with io_uring: installed for that processor, then imported and used inside a guest, a Debian kernel for
// arm64 in QEMU's full emulation, on Node for glibc and on Node for musl.
import { join } from 'node:path';
import { programs } from '../../test/support/machine.js';
import { coreTests } from './arm64.js';
import { Customer } from './customers.js';
import { bootGuest } from './guest_boot.js';
import { buildImage } from './guest_image.js';
import { fetchDebian } from './guest_packages.js';
import { inWords, muslNode } from './musl.js';
import { findNode } from './nodes.js';
import type { Platform } from './platforms.js';
import type { Stage } from './rehearsal.js';
import { NotHere } from './steps.js';
import { install } from './tools.js';

const GUEST_NODE = '24.21.0';
const TOOLS: Readonly<Record<string, string>> = {
  'qemu-system-aarch64': 'qemu-system-arm',
  cpio: 'cpio',
  'mkfs.ext4': 'e2fsprogs',
};
/** What the guest does with each Node. */
const TASKS = ['face', ...['io_uring', 'threads'].flatMap((engine) => [engine, `${engine}-first`, `${engine}-second`])];
/** The core's tests that need a kernel's io_uring. */
const CORE_TESTS = ['engine_contract'];

/** One Node in the guest, and the folder that the package was installed in for it. */
export interface Resident {
  readonly libc: Platform['libc'];
  readonly folder: string;
  readonly node: string;
}

/** Gets the guest together, boots it, and takes its word. */
export async function tryGuest(stage: Stage): Promise<void> {
  await stage.steps.take(
    'arm64: import, require and copies by io_uring and threads, in a guest, with glibc and with musl',
    () => inGuest(stage),
  );
}

async function inGuest(stage: Stage): Promise<string> {
  const { root, packed, steps } = stage;
  const absent = Object.keys(TOOLS).filter((tool) => !programs(tool).available);
  if (absent.length > 0) await inWords('QEMU', () => install(absent.map((tool) => TOOLS[tool] ?? tool)));
  const residents: Resident[] = [];
  for (const platform of packed.platforms.filter(({ cpu }) => cpu === 'arm64')) {
    const node = platform.libc === 'musl' ? await muslNode(root, 'arm64') : await findNode(root, GUEST_NODE, 'arm64');
    residents.push({ libc: platform.libc, node, folder: await installed(stage, platform) });
  }
  if (residents.length === 0) throw new NotHere('no package for arm64');
  const debian = await fetchDebian(join(root, 'target', 'arm64'));
  const tests = await coreTests(root, CORE_TESTS);
  const image = await buildImage(steps.directory, root, debian, residents, tests);
  const seen = await bootGuest(debian.kernel, image, (kill) => steps.atEnd(kill));
  return judge(residents, seen);
}

/** Installs the package as npm does on such a machine. */
async function installed(stage: Stage, platform: Platform): Promise<string> {
  const customer = new Customer(stage, `arm64-${platform.libc}`, process.execPath);
  await customer.npm('install', '--os=linux', '--cpu=arm64', `--libc=${platform.libc}`, 'kcopyd');
  customer.expectInstalled('kcopyd', platform.packageName);
  return customer.folder;
}

/** The guest reports one line for each thing it did: `glibc face 0 {…}`. */
function judge(
  residents: readonly Resident[],
  { lines, console: kernel }: { lines: readonly string[]; console: string },
): string {
  const problems: string[] = [];
  const words: string[] = [];
  for (const { libc } of residents) {
    for (const task of TASKS) {
      const line =
        lines.find((one) => one.startsWith(`${libc} ${task} `)) ?? `${libc} ${task}: the guest did not come to it`;
      const [, said] = /^\w+ [\w-]+ 0 (.*)/.exec(line) ?? [];
      if (said === undefined) problems.push(line);
      else if (said.startsWith('{')) words.push(`${libc} ${said.trim()}`);
    }
    const ring = words.some((one) => one.startsWith(`${libc} {"node"`) && one.includes('"engine":"io_uring"'));
    if (!ring) problems.push(`${libc}: the engine is not io_uring`);
  }
  for (const test of CORE_TESTS) {
    const line = lines.find((one) => one.startsWith(`core ${test} `)) ?? `core ${test}: the guest did not come to it`;
    const [, result] = /^core \w+ 0 .*?(\d+ passed; 0 failed)/.exec(line) ?? [];
    if (result) words.push(`the core's ${test}: ${result}`);
    else problems.push(line);
  }
  if (problems.length > 0) throw new Error(`${problems.join('\n')}\n${lines.join('\n')}\n${kernel.slice(-2_000)}`);
  return words.join(' ');
}
