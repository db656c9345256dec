// What this machine allows the tests, the demo and the benchmarks to use, each with the reason when it is missing: nothing is
// skipped without one. It tries things out instead of guessing from names; each is tried once per process.
import { accessSync, constants, mkdtempSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { output, PROGRAM_PATH, run } from './command.js';
import { FaultyFile } from './faulty.js';

/** Whether something can be used here, and if not, why. */
export type Facility = { readonly available: true } | { readonly available: false; readonly reason: string };

const AVAILABLE: Facility = { available: true };
const TMPFS_MAGIC = 0x01021994;

function missing(reason: string): Facility {
  return { available: false, reason };
}

function oneLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).trim().replaceAll(/\s+/g, ' ');
}

function once(look: () => Promise<Facility>): () => Promise<Facility> {
  let seen: Promise<Facility> | undefined;
  return () => {
    seen ??= look();
    return seen;
  };
}

/** Whether this process may mount and make loop devices. */
export const isRoot: () => Promise<Facility> = once(async () =>
  process.geteuid?.() === 0 ? AVAILABLE : missing('not root'),
);

/** Whether loop devices can be attached: tried with a small file. */
export const hasLoop: () => Promise<Facility> = once(async () => {
  const root = await isRoot();
  if (!root.available) return missing(`no loop devices: ${root.reason}`);
  const tools = programs('losetup');
  if (!tools.available) return tools;
  const directory = mkdtempSync(join(fastDirectory(), 'kcopyd-probe-'));
  try {
    const file = join(directory, 'loop');
    writeFileSync(file, '');
    truncateSync(file, 1 << 20);
    const device = await output('losetup', ['--find', '--show', file]);
    await output('losetup', ['--detach', device]);
    return AVAILABLE;
  } catch (error) {
    return missing(`no loop devices: ${oneLine(error)}`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

/** Whether file systems can be mounted (a container's root often may not). */
export const hasMount: () => Promise<Facility> = once(async () => {
  const root = await isRoot();
  if (!root.available) return missing(`no mounts: ${root.reason}`);
  const directory = mkdtempSync(join(fastDirectory(), 'kcopyd-probe-'));
  try {
    await output('mount', ['-t', 'tmpfs', '-o', 'size=1M', 'kcopyd', directory]);
    await output('umount', [directory]);
    return AVAILABLE;
  } catch (error) {
    return missing(`no mounts: ${oneLine(error)}`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

/** Whether devices that fail on demand can be made: nbdkit behind nbdfuse. */
export const hasNbd: () => Promise<Facility> = once(async () => {
  const tools = programs('nbdkit', 'nbdfuse', 'fusermount3');
  if (!tools.available) return missing(`no faulty devices: ${tools.reason}`);
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch {
    return missing('no faulty devices: /dev/fuse is not there, or not ours to open');
  }
  const { code } = await run('nbdkit', ['--dump-plugin', 'eval']);
  if (code !== 0) return missing('no faulty devices: nbdkit has no eval plugin');
  const directory = mkdtempSync(join(fastDirectory(), 'kcopyd-probe-'));
  try {
    // A container may have /dev/fuse and yet not be allowed to mount with it.
    const faulty = await FaultyFile.start(directory, { kind: 'full', bytes: 1 << 20 });
    await faulty.stop();
    return AVAILABLE;
  } catch (error) {
    return missing(`no faulty devices: ${oneLine(error)}`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

/** Whether block devices in compressed memory can be made. */
export const hasZram: () => Promise<Facility> = once(async () => {
  const root = await isRoot();
  if (!root.available) return missing(`no zram devices: ${root.reason}`);
  try {
    accessSync('/sys/class/zram-control/hot_add', constants.R_OK);
    return AVAILABLE;
  } catch {
    return missing('no zram devices: the kernel has no zram, or its module is not loaded');
  }
});

/** Whether strace may answer other programs' system calls: a container may forbid to look at them. */
export const hasStrace: () => Promise<Facility> = once(async () => {
  const tools = programs('strace');
  if (!tools.available) return tools;
  const ended = await run('strace', ['-f', '-qq', '-o', '/dev/null', '-e', 'inject=getppid:retval=1', 'true']);
  return ended.code === 0 ? AVAILABLE : missing(`strace may not be used: ${oneLine(ended.stderr)}`);
});

/** Whether ext4 images can be made and checked. */
export const hasExt4: () => Promise<Facility> = once(async () => programs('mkfs.ext4', 'fsck.ext4'));

/** Whether all these programs are on the path. */
export function programs(...names: readonly string[]): Facility {
  const absent = names.filter((name) => !onPath(name));
  return absent.length === 0 ? AVAILABLE : missing(`${absent.join(', ')} not installed`);
}

function onPath(name: string): boolean {
  return PROGRAM_PATH.split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** A directory for temporary files: in memory where there is room, so that tests measure us and not a disk. */
export function fastDirectory(roomBytes: number = 1 << 30): string {
  const memory = '/dev/shm';
  try {
    accessSync(memory, constants.W_OK);
    const { type, bavail, bsize } = statfsSync(memory);
    // Containers often have 64 MiB there, too little for a few images.
    if (type === TMPFS_MAGIC && bavail * bsize >= roomBytes) return memory;
  } catch {
    // Not there: the ordinary place will do.
  }
  return tmpdir();
}
