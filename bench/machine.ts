// What the machine is and how busy it is: from procfs and sysfs. It changes nothing.
import { readFileSync, statfsSync } from 'node:fs';
import { cpus, loadavg, release } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { output } from '../test/support/command.js';

/** What is written above every result. */
export interface Machine {
  readonly processor: string;
  readonly processors: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly node: string;
  readonly distribution: string;
  readonly commit: string;
  readonly load: number;
}

/** Looks at the machine. */
export async function machine(): Promise<Machine> {
  return {
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    processors: cpus().length,
    memoryBytes: memory('MemTotal'),
    kernel: release(),
    node: process.version,
    distribution: /^PRETTY_NAME="(.*)"$/m.exec(text('/etc/os-release'))?.[1] ?? 'unknown',
    commit: await output('git', ['describe', '--always', '--dirty']).catch(() => 'unknown'),
    load: loadavg()[0] ?? 0,
  };
}

/** A line of /proc/meminfo, in bytes. */
export function memory(name: string): number {
  const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text('/proc/meminfo'))?.[1];
  if (kib === undefined) throw new Error(`/proc/meminfo has no ${name}`);
  return Number(kib) * 1024;
}

/** Bytes of files and block devices that the kernel keeps in memory, without tmpfs, on which the devices are. */
export function pageCacheBytes(): number {
  return memory('Cached') - memory('Shmem') + memory('Buffers');
}

/** Bytes that can be put into this directory without getting near the end of the memory. */
export function roomBytes(directory: string, reserveBytes: number): number {
  const { bavail, bsize } = statfsSync(directory);
  return Math.min(bavail * bsize, memory('MemAvailable') - reserveBytes);
}

/** Processor time that the whole machine has spent at work so far, in seconds; resolution 10 ms. */
export function machineBusySeconds(): number {
  // user nice system idle iowait irq softirq steal, in hundredths of a second.
  const fields = text('/proc/stat').split('\n', 1)[0]!.trim().split(/\s+/).slice(1, 9).map(Number);
  const idle = (fields[3] ?? 0) + (fields[4] ?? 0);
  return (fields.reduce((sum, field) => sum + field, 0) - idle) / 100;
}

const LOOK_MS = 200;
const CALM_SHARE = 0.15;

/**
 * Waits until others leave most of the machine alone, at most so long; the share of one processor that was busy when last
 * looked at.
 */
export async function calm(atMostMs: number): Promise<number> {
  const deadline = performance.now() + atMostMs;
  for (;;) {
    const before = machineBusySeconds();
    await sleep(LOOK_MS);
    const busy = ((machineBusySeconds() - before) * 1000) / LOOK_MS;
    if (busy <= CALM_SHARE || performance.now() >= deadline) return busy;
  }
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
