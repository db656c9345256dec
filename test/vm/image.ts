// The guest's root file system: busybox, dmsetup with its libraries, the modules that the cases load with all they depend on, the
// program, and an init that starts it. A cpio archive that the kernel unpacks into memory. It knows no case.
import { chmodSync, copyFileSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { output, PROGRAM_PATH } from '../support/command.js';
import type { Kernel } from './packages.js';

/** Loaded when the guest starts, in this order. */
const LOADED = ['configfs', 'dm-mod'];
/** Loaded by the cases and by the device mapper itself. */
const AT_HAND = [
  ...['brd', 'null_blk', 'scsi_debug', 'sd_mod', 'loop', 'crc32c_generic'],
  ...['flakey', 'delay', 'log-writes', 'integrity', 'mirror', 'thin-pool', 'snapshot'].map((name) => `dm-${name}`),
];

const INIT = `#!/bin/sh
# The first process of the guest. What the program prints goes to the second serial port, kernel messages to the first.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
for module in ${LOADED.join(' ')}; do modprobe $module; done
mount -t configfs config /sys/kernel/config
stty -F /dev/ttyS1 raw
/bin/kcopyd-vm $(cat /etc/kcopyd-guest) >/dev/ttyS1 2>&1 </dev/null
poweroff -f
`;

const APPLETS = ['sh', 'mount', 'modprobe', 'rmmod', 'stty', 'cat', 'poweroff', 'losetup', 'dd'];

/** Makes the archive; its path. */
export async function buildImage(
  directory: string,
  kernel: Kernel,
  program: string,
  args: readonly string[],
): Promise<string> {
  const root = join(directory, 'root');
  rmSync(root, { recursive: true, force: true });
  for (const made of ['bin', 'dev', 'etc', 'proc', 'sys', 'tmp']) mkdirSync(join(root, made), { recursive: true });
  await install(root, await which('busybox'), 'bin/busybox');
  for (const applet of APPLETS)
    writeExecutable(join(root, 'bin', applet), `#!/bin/busybox sh\nexec /bin/busybox ${applet} "$@"\n`);
  await install(root, await which('dmsetup'), 'bin/dmsetup');
  await install(root, program, 'bin/kcopyd-vm');
  await installModules(root, kernel);
  symlinkSync('bin', join(root, 'sbin'));
  writeExecutable(join(root, 'init'), INIT.replace('#!/bin/sh', '#!/bin/busybox sh'));
  writeFileSync(join(root, 'etc', 'kcopyd-guest'), `${args.join(' ')}\n`);
  const image = join(directory, 'image.cpio');
  await output('sh', ['-c', 'cd "$0" && find . | cpio --quiet --create --format=newc >"$1"', root, image]);
  return image;
}

function writeExecutable(path: string, text: string): void {
  writeFileSync(path, text);
  chmodSync(path, 0o755);
}

/** Copies a program and, if it is not static, the libraries that it names. */
async function install(root: string, from: string, to: string): Promise<void> {
  copyFileSync(from, join(root, to));
  chmodSync(join(root, to), 0o755);
  const { libraries } = await librariesOf(from);
  for (const library of libraries) {
    const path = join(root, library);
    if (existsSync(path)) continue;
    mkdirSync(dirname(path), { recursive: true });
    copyFileSync(library, path);
    chmodSync(path, 0o755);
  }
}

async function librariesOf(program: string): Promise<{ libraries: string[] }> {
  // ldd says of a static program that it is none, with an exit code of 1.
  const listed = await output('sh', ['-c', 'ldd "$0" || true', program]);
  const libraries = [...listed.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, path]) => path ?? '');
  return { libraries };
}

async function which(program: string): Promise<string> {
  return output('sh', ['-c', 'command -v "$0"', program], { env: { ...process.env, PATH: PROGRAM_PATH } });
}

async function installModules(root: string, kernel: Kernel): Promise<void> {
  const modules = join('lib', 'modules', kernel.release);
  mkdirSync(join(root, modules), { recursive: true });
  for (const list of ['modules.builtin', 'modules.order']) {
    copyFileSync(join(kernel.root, modules, list), join(root, modules, list));
  }
  const shown = ['--dirname', kernel.root, '--set-version', kernel.release, '--show-depends', '--all'];
  const listed = await output('modprobe', [...shown, ...LOADED, ...AT_HAND]);
  for (const [, path] of listed.matchAll(/^insmod (\S+)/gm)) {
    if (!path) continue;
    const to = join(root, modules, 'kernel', basename(path));
    if (!existsSync(to)) mkdirSync(dirname(to), { recursive: true });
    copyFileSync(path, to);
  }
  await output('depmod', ['--basedir', root, kernel.release]);
}
