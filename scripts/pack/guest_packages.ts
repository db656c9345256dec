// What the arm64 guest is made of that is not ours: a kernel, busybox and the C libraries, from Debian's packages for arm64. They are
// downloaded and unpacked beside the checkout; apt's lists for arm64 are kept there too, so this machine's own settings stay as
// they are.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { output } from '../../test/support/command.js';
import { programs } from '../../test/support/machine.js';
import { inWords } from './musl.js';
import { say } from './say.js';
import { NotHere } from './steps.js';

const APT_MS = 600_000;
const PACKAGES = ['busybox-static', 'libc6', 'libstdc++6', 'libgcc-s1', 'musl'];

const MODULES = [
  ...['drivers/block/loop.ko', 'crypto/crc32c_generic.ko', 'lib/crc16.ko', 'lib/libcrc32c.ko', 'fs/mbcache.ko'],
  ...['fs/jbd2/jbd2.ko', 'fs/ext4/ext4.ko'],
];

/** The packages, unpacked. */
export interface Debian {
  /** What they unpack to. */
  readonly root: string;
  readonly kernel: string;
  /** The modules that make loop devices and mount ext4, in the order in which to load them. */
  readonly modules: readonly string[];
}

/** Everything, downloaded once. */
export async function fetchDebian(directory: string): Promise<Debian> {
  const root = join(directory, 'debian');
  if (!existsSync(root)) await inWords('Debian for arm64', () => fetchInto(directory, root));
  const [release = ''] = readdirSync(join(root, 'lib', 'modules'));
  return {
    root,
    kernel: join(root, 'boot', `vmlinuz-${release}`),
    modules: MODULES.map((module) => join(root, 'lib/modules', release, 'kernel', module)).filter((path) =>
      existsSync(path),
    ),
  };
}

async function fetchInto(directory: string, root: string): Promise<void> {
  if (!programs('apt-get', 'apt-cache', 'dpkg-deb').available) throw new NotHere('there is no apt-get here');
  const [downloads, part, state] = ['download', 'part', 'apt'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  for (const folder of [downloads, part, state]) rmSync(folder, { recursive: true, force: true });
  for (const folder of [
    downloads,
    part,
    join(state, 'lists', 'partial'),
    join(state, 'cache', 'archives', 'partial'),
  ]) {
    mkdirSync(folder, { recursive: true });
  }
  writeFileSync(join(state, 'status'), '');
  const settings = [
    ...['-o', 'APT::Architecture=arm64', '-o', 'APT::Architectures=arm64', '-o', 'APT::Sandbox::User=root'],
    ...[
      '-o',
      `Dir::State=${state}`,
      '-o',
      `Dir::State::status=${join(state, 'status')}`,
      '-o',
      `Dir::Cache=${join(state, 'cache')}`,
    ],
  ];
  const apt = (program: string, ...args: readonly string[]) =>
    output(program, [...settings, ...args], { cwd: downloads, timeoutMs: APT_MS });
  say('downloading a kernel, busybox and the C libraries for arm64 (apt-get), for the guest');
  await apt('apt-get', '--quiet', 'update');
  const depends = await apt('apt-cache', 'depends', 'linux-image-arm64');
  const kernel = /Depends: (linux-image-[\w.+-]+)/.exec(depends)?.[1];
  if (!kernel) throw new NotHere('Debian has no kernel for arm64');
  await apt('apt-get', 'download', kernel, ...PACKAGES);
  for (const file of readdirSync(downloads))
    await output('dpkg-deb', ['-x', join(downloads, file), part], { timeoutMs: APT_MS });
  for (const folder of [downloads, state]) rmSync(folder, { recursive: true, force: true });
  renameSync(part, root);
}
