// The devices that are copied from and to: loop devices over files in memory, made here and cleared away here. It refuses
// every other device, and to take the memory that the machine needs itself.
import { readFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import { formatBytes } from '../cli/format.js';
import { run } from '../test/support/command.js';
import { fastDirectory, isRoot, programs } from '../test/support/machine.js';
import type { LoopDevice, Workshop } from '../test/support/workshop.js';
import { roomBytes } from './machine.js';
import type { Ground } from './rounds.js';

/** What is left alone for everything else that runs. */
const RESERVE_BYTES = 3 << 30;
const CHUNK_BYTES = 8 << 20;
const LONG_MS = 600_000;
/** Where /sys/block/NAME/stat has the number of sectors read, from 0. */
const SECTORS_READ = 2;
const SECTOR_BYTES = 512;
/** How many requests a loop device takes at once unless somebody changes that. */
const REQUESTS_AT_ONCE = '128';

/** Throws, with what to do about it, unless so many bytes of devices can be had here. */
export async function needRoom(bytes: number): Promise<void> {
  const root = await isRoot();
  if (!root.available) throw new Error('loop devices need root: run the benchmark as root');
  const tools = programs('losetup', 'blockdev', 'cmp', 'bash');
  if (!tools.available) throw new Error(`${tools.reason}: install mount, util-linux, diffutils and bash`);
  const room = roomBytes(fastDirectory(bytes), RESERVE_BYTES);
  if (room >= bytes) return;
  throw new Error(
    `${formatBytes(bytes)} of memory are needed for the devices, ${formatBytes(Math.max(0, room))} are to be had ` +
      `(${formatBytes(RESERVE_BYTES)} are left alone): ask for less with --size, or free some`,
  );
}

/** A loop device whose bytes are in `file`. */
export interface Disk extends LoopDevice {
  /** What the loop device is on, where that is not the file itself but something that brings the bytes there. */
  readonly by?: string;
}

/** What somebody has set on a loop device stays with its number, and would be measured in our place. */
function restoreQueue({ path }: Disk): void {
  const requests = `/sys/block/${basename(path)}/queue/nr_requests`;
  if (readFileSync(requests, 'utf8').trim() !== REQUESTS_AT_ONCE) writeFileSync(requests, REQUESTS_AT_ONCE);
}

/** A source of random bytes and the destinations of its copies. */
export class Disks implements Ground {
  readonly source: Disk;
  readonly destinations: readonly Disk[];
  readonly bytes: number;

  /** Of devices that were made in another way. */
  constructor(source: Disk, destinations: readonly Disk[], bytes: number) {
    this.source = source;
    this.destinations = destinations;
    this.bytes = bytes;
  }

  /** Makes them. */
  static async make(
    workshop: Workshop,
    { bytes, destinations }: { bytes: number; destinations: number },
  ): Promise<Disks> {
    await needRoom(bytes * (1 + destinations));
    const source = await workshop.loop({ bytes, seed: 'bench' });
    const made: LoopDevice[] = [];
    while (made.length < destinations) made.push(await workshop.loop({ bytes }));
    const disks = new Disks(source, made, bytes);
    [source, ...made].forEach(restoreQueue);
    // Filled before the first run, so that no run pays for the memory of the files.
    await disks.spoil();
    return disks;
  }

  /** Overwrites every destination, so that nothing that a run has left out can look right. */
  async spoil(): Promise<void> {
    this.#refuseOthers();
    const chunk = Buffer.alloc(CHUNK_BYTES, 0xa5);
    for (const { file } of this.destinations) {
      const handle = await open(file, 'r+');
      try {
        for (let offset = 0; offset < this.bytes; offset += CHUNK_BYTES)
          await handle.write(chunk, 0, CHUNK_BYTES, offset);
      } finally {
        await handle.close();
      }
    }
  }

  /** Throws unless every destination holds the source's bytes. The files are compared: what is not there was not written. */
  async compare(): Promise<void> {
    for (const { path, file } of [this.source, ...this.destinations]) {
      // What somebody left in the page cache of a device is written now; what was read into it is given up.
      await run('blockdev', ['--flushbufs', path]);
      if (file === this.source.file) continue;
      const { code, stdout, stderr } = await run('cmp', [this.source.file, file], { timeoutMs: LONG_MS });
      if (code !== 0) throw new Error(`${path} does not hold what ${this.source.path} does: ${stdout}${stderr}`);
    }
  }

  /** Bytes that the source's device was asked for, by whomever. */
  sourceBytesRead(): number {
    const fields = readFileSync(`/sys/block/${basename(this.source.path)}/stat`, 'utf8')
      .trim()
      .split(/\s+/);
    return Number(fields[SECTORS_READ]) * SECTOR_BYTES;
  }

  /** Whatever a path meant once, it is looked at again before anything is written to it. */
  #refuseOthers(): void {
    for (const { path, file, by = file } of [this.source, ...this.destinations]) {
      const behind = readFileSync(`/sys/block/${basename(path)}/loop/backing_file`, 'utf8').trim();
      if (behind !== by) throw new Error(`${path} is not a device of this benchmark: behind it is ${behind}`);
    }
  }
}
