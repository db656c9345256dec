// What the guest is made of that is not ours: QEMU and some tools, installed from Debian packages where that needs no question, and a
// kernel, which is unpacked beside the checkout and not installed, so that no hook of it touches this machine's boot loader.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { output, run } from '../support/command.js';
import { programs } from '../support/machine.js';

/** This machine cannot run the guest; the message says why, in one line. */
export class NotHere extends Error {}

/** A kernel with its modules. */
export interface Kernel {
  readonly release: string;
  /** What is booted. */
  readonly image: string;
  /** The directory that has lib/modules. */
  readonly root: string;
}

/** Programs, and the Debian package that each is in. */
const TOOLS: Readonly<Record<string, string>> = {
  'qemu-system-x86_64': 'qemu-system-x86',
  dmsetup: 'dmsetup',
  busybox: 'busybox-static',
  cpio: 'cpio',
  depmod: 'kmod',
};
const INSTALL_MS = 300_000;
/** Of the 400 MB that the kernel's package unpacks to, what modules of ours can be in. */
const WANTED = ['md', 'block', 'scsi', 'virtio', 'dax'].map((name) => `./lib/modules/*/kernel/drivers/${name}/*`);
const ALSO_WANTED = ['lib', 'crypto', 'fs/configfs', 'arch/x86/crypto', 'block'].map(
  (name) => `./lib/modules/*/kernel/${name}/*`,
);

/** Everything from Debian, got together if it is not yet. */
export async function debian(directory: string): Promise<Kernel> {
  if (process.arch !== 'x64') throw new NotHere(`the guest is x86-64, this is ${process.arch}`);
  await installTools();
  return (await kernelIn(join(directory, 'kernel'))) ?? (await fetchKernel(directory));
}

async function installTools(): Promise<void> {
  const absent = Object.keys(TOOLS).filter((tool) => !programs(tool).available);
  if (absent.length === 0) return;
  const packages = absent.map((tool) => TOOLS[tool] ?? tool);
  const how = `apt-get install --no-install-recommends ${packages.join(' ')}`;
  if (!programs('apt-get').available) throw new NotHere(`${absent.join(', ')} not installed, and there is no apt-get`);
  if (process.geteuid?.() !== 0) throw new NotHere(`${absent.join(', ')} not installed; as root: ${how}`);
  console.log(`kcopyd: installing ${packages.join(' ')} (apt-get), for the guest`);
  const install = [
    '-o',
    'DPkg::Lock::Timeout=120',
    'install',
    '--yes',
    '--quiet',
    '--no-install-recommends',
    ...packages,
  ];
  if ((await aptGet(install)) !== 0) {
    await aptGet(['update', '--quiet']);
    if ((await aptGet(install)) !== 0) throw new NotHere(`${how} failed`);
  }
}

async function aptGet(args: readonly string[], cwd?: string): Promise<number | null> {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const { code } = await run('apt-get', args, { timeoutMs: INSTALL_MS, env, ...(cwd ? { cwd } : {}) });
  return code;
}

/** The kernel that was unpacked before. */
async function kernelIn(root: string): Promise<Kernel | undefined> {
  const modules = join(root, 'lib', 'modules');
  const release = existsSync(modules) ? readdirSync(modules)[0] : undefined;
  return release ? { release, root, image: join(root, 'boot', `vmlinuz-${release}`) } : undefined;
}

async function fetchKernel(directory: string): Promise<Kernel> {
  if (!programs('apt-get', 'apt-cache', 'dpkg-deb').available) {
    throw new NotHere('the kernel comes from a Debian package, and there is no apt-get here');
  }
  const [downloads, unpacked] = [join(directory, 'download'), join(directory, 'unpacked')];
  for (const left of [downloads, unpacked]) rmSync(left, { recursive: true, force: true });
  for (const made of [downloads, unpacked]) mkdirSync(made, { recursive: true });
  const file = await download(downloads);
  console.log(`kcopyd: unpacking ${file}, for the guest`);
  await unpack(join(downloads, file), unpacked);
  const kernel = await kernelIn(unpacked);
  if (!kernel) throw new NotHere(`${file} has no lib/modules`);
  await output('depmod', ['--basedir', unpacked, kernel.release], { timeoutMs: INSTALL_MS });
  rmSync(downloads, { recursive: true, force: true });
  const root = join(directory, 'kernel');
  rmSync(root, { recursive: true, force: true });
  // Last, and at once: a run that is killed leaves no half of a kernel behind.
  renameSync(unpacked, root);
  return { ...kernel, root, image: join(root, 'boot', `vmlinuz-${kernel.release}`) };
}

/** Downloads the package of the newest kernel; its file name. */
async function download(directory: string): Promise<string> {
  for (const update of [false, true]) {
    // Lists that are there already may do, unless the mirror has moved on.
    if (update) await aptGet(['update', '--quiet']);
    const { stdout } = await run('apt-cache', ['depends', 'linux-image-amd64'], { timeoutMs: INSTALL_MS });
    const name = /Depends: (linux-image-[\w.+-]+)/.exec(stdout)?.[1];
    if (!name) continue;
    console.log(`kcopyd: downloading ${name} (apt-get), for the guest`);
    const file = (await aptGet(['download', `${name}:amd64`], directory)) === 0 ? readdirSync(directory)[0] : undefined;
    if (file) return file;
  }
  throw new NotHere('apt-get could not download the package linux-image-amd64 depends on');
}

async function unpack(file: string, into: string): Promise<void> {
  const wanted = ['./boot/vmlinuz-*', './lib/modules/*/modules.*', ...WANTED, ...ALSO_WANTED];
  // Where /lib is a link to /usr/lib, packages name the latter.
  const both = wanted.flatMap((path) => [path, path.replace('./lib/', './usr/lib/')]);
  const patterns = both.map((path) => `'${path}'`).join(' ');
  // tar complains of every pattern that matches nothing; whether what is needed is there is looked at afterwards.
  const script = `dpkg-deb --fsys-tarfile "$0" | tar --extract --directory="$1" --wildcards ${patterns} 2>/dev/null; true`;
  await output('sh', ['-c', script, file, into], { timeoutMs: INSTALL_MS });
  if (!existsSync(join(into, 'lib')) && existsSync(join(into, 'usr', 'lib'))) symlinkSync('usr/lib', join(into, 'lib'));
}
