// A control group whose processes write to one device no faster than so: the kernel's blkio throttle, of either version of
// control groups. It is removed with whatever made it.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

const ROOT = '/sys/fs/cgroup';
const PREFIX = 'kcopyd-bench-';

/** Where this machine has such groups, and how a bound is written there. */
function hierarchy(): { readonly directory: string; readonly file: string; readonly bound: (bytes: number) => string } {
  const old = join(ROOT, 'blkio');
  if (existsSync(join(old, 'blkio.throttle.write_bps_device'))) {
    return { directory: old, file: 'blkio.throttle.write_bps_device', bound: String };
  }
  const controllers = join(ROOT, 'cgroup.subtree_control');
  if (existsSync(controllers) && readFileSync(join(ROOT, 'cgroup.controllers'), 'utf8').split(/\s+/).includes('io')) {
    writeFileSync(controllers, '+io');
    return { directory: ROOT, file: 'io.max', bound: (bytes) => `wbps=${bytes}` };
  }
  throw new Error('no control groups that throttle devices: neither blkio of version 1 nor io of version 2 is mounted');
}

/**
 * Makes a group whose processes write at most so many bytes a second to a block device, for as long as `body` lasts. A process
 * joins it by writing its number to `cgroup.procs` in the directory.
 */
export async function withThrottledWrites<T>(
  device: string,
  bytesPerSecond: number,
  body: (directory: string) => Promise<T>,
): Promise<T> {
  const { directory, file, bound } = hierarchy();
  for (const left of abandoned(directory)) remove(left);
  const group = join(directory, `${PREFIX}${process.pid}`);
  mkdirSync(group);
  const atExit = (): void => remove(group);
  process.on('exit', atExit);
  try {
    const numbers = readFileSync(`/sys/block/${basename(device)}/dev`, 'utf8').trim();
    writeFileSync(join(group, file), `${numbers} ${bound(bytesPerSecond)}`);
    return await body(group);
  } finally {
    process.off('exit', atExit);
    remove(group);
  }
}

/** A group that still has processes cannot be removed: they go where everybody is. */
function remove(group: string): void {
  for (const pid of readFileSync(join(group, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean)) {
    try {
      writeFileSync(join(group, '..', 'cgroup.procs'), pid);
    } catch {
      // It has ended meanwhile.
    }
  }
  rmdirSync(group);
}

/** Groups of benchmarks that were killed. */
function abandoned(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => name.startsWith(PREFIX) && !existsSync(`/proc/${name.slice(PREFIX.length)}`))
    .map((name) => join(directory, name));
}
