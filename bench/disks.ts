// The devices that are copied from and to: loop devices over files in memory, made here and cleared away here. It refuses
// every other device, and to take the memory that the machine needs itself.
import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import { formatBytes } from '../cli/format.js';
import { run } from '../test/support/command.js';
import { fastDirectory, isRoot, programs } from '../test/support/machine.js';
import type { LoopDevice, Workshop } from '../test/support/workshop.js';
import { roomBytes } from './machine.js';

/** What is left alone for everything else that runs. */
const RESERVE_BYTES = 3 << 30;
const CHUNK_BYTES = 8 << 20;
const LONG_MS = 600_000;

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

/** A source of random bytes and the destinations of its copies. */
export class Disks {
  readonly source: LoopDevice;
  readonly destinations: readonly LoopDevice[];
  readonly bytes: number;

  private constructor(source: LoopDevice, destinations: readonly LoopDevice[], bytes: number) {
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

  /** Gives the memory back before the workshop ends. */
  async detach(): Promise<void> {
    for (const disk of [this.source, ...this.destinations]) {
      await disk.detach();
      // The file stays until the workshop is cleared away; its bytes need not.
      const handle = await open(disk.file, 'w');
      await handle.close();
    }
  }

  /** Whatever a path meant once, it is looked at again before anything is written to it. */
  #refuseOthers(): void {
    for (const { path, file } of [this.source, ...this.destinations]) {
      const behind = readFileSync(`/sys/block/${basename(path)}/loop/backing_file`, 'utf8').trim();
      if (behind !== file) throw new Error(`${path} is not a device of this benchmark: behind it is ${behind}`);
    }
  }
}
