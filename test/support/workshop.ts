// Makes what a test, the demo or a benchmark works on: files of known bytes, loop devices, small file systems, devices that
// fail on demand (faulty.ts); and clears all of it away again, in reverse order, also when the process is ending. It knows
// nothing of kcopyd, nor of the test runner.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { output, runSync } from './command.js';
import { type Fault, FaultyFile } from './faulty.js';
import { type Facility, fastDirectory, hasLoop, hasMount, hasNbd, hasZram } from './machine.js';
import { randomBytes } from './random.js';

/** How a file is filled: with a seed's bytes, or not at all (then it is sparse and reads as zeros). */
export interface FileOptions {
  readonly bytes: number;
  readonly seed?: string;
  /** Default: a number in the workshop's own directory. */
  readonly path?: string;
}

export interface LoopOptions {
  /** Logical block of the device: 512 (default) or 4096. */
  readonly sectorSize?: 512 | 4096;
  /** Whether the device passes by the page cache of its file. Default true, where the file system can. */
  readonly directIo?: boolean;
  /** Whether the kernel may make one request of adjacent ones. Default true, as everywhere. */
  readonly merges?: boolean;
  readonly readOnly?: boolean;
}

/** A loop device and the file behind it. */
export interface LoopDevice {
  readonly path: string;
  readonly file: string;
  /** Detaches it early; safe to call twice. */
  detach(): Promise<void>;
}

export interface WorkshopOptions {
  /** Called, and must throw, when the machine does not allow what is asked for. Default: throws an Error with the reason. */
  readonly unavailable?: (reason: string) => never;
  /** How much room the workshop's directory must have, in bytes. Default 1 GiB. */
  readonly roomBytes?: number;
}

/** Something that must be cleared away. */
interface Cleanup {
  readonly late: () => void;
  readonly done: () => Promise<void>;
}

const FILL_BYTES = 8 << 20;
const PREFIX = 'kcopyd-';

/** A place to work in. Everything made in it is cleared away by `dispose`. */
export class Workshop {
  /** The workshop's own directory. */
  readonly directory: string;
  readonly #unavailable: (reason: string) => never;
  readonly #cleanups: Cleanup[] = [];
  readonly #atExit: () => void;
  #made = 0;

  constructor({ unavailable = refuse, roomBytes }: WorkshopOptions = {}) {
    this.#unavailable = unavailable;
    this.directory = mkdtempSync(join(fastDirectory(roomBytes), `${PREFIX}${process.pid}-`));
    this.#atExit = () => this.#clearLate();
    process.on('exit', this.#atExit);
  }

  /** A new path in the workshop. */
  path(suffix = ''): string {
    this.#made += 1;
    return join(this.directory, `${this.#made}${suffix}`);
  }

  /** A file. */
  async file({ bytes, seed, path = this.path('.img') }: FileOptions): Promise<string> {
    const handle = await open(path, 'w');
    try {
      await handle.truncate(bytes);
      // Not write(), which may come short where a file system is about to be full.
      for (let offset = 0; seed !== undefined && offset < bytes; offset += FILL_BYTES) {
        await handle.writeFile(randomBytes(seed, Math.min(FILL_BYTES, bytes - offset), offset));
      }
    } finally {
      await handle.close();
    }
    return path;
  }

  /** A loop device on a new file. */
  async loop(options: FileOptions & LoopOptions): Promise<LoopDevice> {
    await this.#need(hasLoop());
    return this.attach(await this.file(options), options);
  }

  /** A loop device on a file that is there already. */
  async attach(
    file: string,
    { sectorSize = 512, directIo = true, merges = true, readOnly = false }: LoopOptions = {},
  ): Promise<LoopDevice> {
    await this.#need(hasLoop());
    const args = ['--find', '--show', '--sector-size', String(sectorSize), ...(readOnly ? ['--read-only'] : []), file];
    // Not every file system under the file can do direct I/O; the device is of use without.
    const path = directIo
      ? await output('losetup', ['--direct-io=on', ...args]).catch(() => output('losetup', args))
      : await output('losetup', args);
    const detach = this.#keep(
      () => output('losetup', ['--detach', path]),
      () => runSync('losetup', ['--detach', path]),
    );
    if (!merges) this.#forbidMerges(path);
    return { path, file, detach };
  }

  /** Such a setting stays with the device's number when it is used again: so it is undone, before the device is detached. */
  #forbidMerges(path: string): void {
    const setting = `/sys/block/${basename(path)}/queue/nomerges`;
    const before = readFileSync(setting, 'utf8');
    writeFileSync(setting, '2');
    const undo = (): void => writeFileSync(setting, before);
    this.#keep(async () => undo(), undo);
  }

  /** A file system in memory that holds at most so many bytes: more gives ENOSPC. Returns its directory. */
  async tmpfs(bytes: number): Promise<string> {
    await this.#need(hasMount());
    return this.#mounted(['-t', 'tmpfs', '-o', `size=${bytes}`, 'kcopyd']);
  }

  /** A block device in compressed memory that may have so much of it and no more. Returns its path. */
  async zram(bytes: number, memoryBytes: number): Promise<string> {
    await this.#need(hasZram());
    // Reading it makes a device; the number is its name.
    const number = readFileSync('/sys/class/zram-control/hot_add', 'utf8').trim();
    const remove = (): void => writeFileSync('/sys/class/zram-control/hot_remove', number);
    this.#keep(async () => remove(), remove);
    writeFileSync(`/sys/block/zram${number}/disksize`, String(bytes));
    writeFileSync(`/sys/block/zram${number}/mem_limit`, String(memoryBytes));
    return `/dev/zram${number}`;
  }

  /** Where the kernel's connections with FUSE servers can be given up. Returns the directory for `FaultyFile.abort`. */
  async fuseControl(): Promise<string> {
    await this.#need(hasMount());
    return this.#mounted(['-t', 'fusectl', 'kcopyd']);
  }

  /** Mounts a device. Returns the directory. */
  async mount(device: string, ...options: readonly string[]): Promise<string> {
    await this.#need(hasMount());
    return this.#mounted([...options, device]);
  }

  /** A file that fails as told. As a block device: `attach(faulty.path)`. */
  async faulty(fault: Fault): Promise<FaultyFile> {
    await this.#need(hasNbd());
    const faulty = await FaultyFile.start(this.path('.faulty'), fault);
    this.#keep(
      () => faulty.stop(),
      () => faulty.stopNow(),
    );
    return faulty;
  }

  /** Clears everything away, last made first; rejects if something could not be. */
  async dispose(): Promise<void> {
    const failures: unknown[] = [];
    for (const cleanup of this.#cleanups.toReversed()) {
      await cleanup.done().catch((error: unknown) => failures.push(error));
    }
    process.off('exit', this.#atExit);
    rmSync(this.directory, { recursive: true, force: true });
    if (failures.length > 0) throw new AggregateError(failures, `not cleared away: ${failures.map(String).join('; ')}`);
  }

  async #mounted(args: readonly string[]): Promise<string> {
    const directory = this.path('.mount');
    await mkdir(directory);
    await output('mount', [...args, directory]);
    this.#keep(
      () => output('umount', [directory]),
      () => runSync('umount', ['--lazy', directory]),
    );
    return directory;
  }

  /** Remembers how to clear something away; the function it returns does it once. */
  #keep(clear: () => Promise<unknown>, late: () => unknown): () => Promise<void> {
    let cleared: Promise<void> | undefined;
    const done = (): Promise<void> => {
      cleared ??= clear().then(() => undefined);
      return cleared;
    };
    this.#cleanups.push({ done, late: () => cleared === undefined && void late() });
    return done;
  }

  #clearLate(): void {
    for (const cleanup of this.#cleanups.toReversed()) cleanup.late();
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #need(facility: Promise<Facility>): Promise<void> {
    const found = await facility;
    if (!found.available) this.#unavailable(found.reason);
  }
}

function refuse(reason: string): never {
  throw new Error(reason);
}

/** Clears away what processes that were killed have left behind: their directories, and the loop devices and mounts in them. */
export async function sweep(): Promise<string[]> {
  const left: string[] = [];
  for (const top of new Set([fastDirectory(), tmpdir()])) {
    for (const name of readdirSync(top)) {
      const pid = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
      if (pid !== undefined && !isAlive(Number(pid))) left.push(join(top, name));
    }
  }
  for (const directory of left) {
    for (const point of mountsUnder(directory)) runSync('umount', ['--lazy', point]);
    for (const device of loopsUnder(directory)) runSync('losetup', ['--detach', device]);
    rmSync(directory, { recursive: true, force: true });
  }
  return left;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function mountsUnder(directory: string): string[] {
  const points = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '');
  return points.filter((point) => point.startsWith(`${directory}/`)).reverse();
}

function loopsUnder(directory: string): string[] {
  const loops = readdirSync('/sys/block').filter((name) => name.startsWith('loop'));
  return loops.filter((name) => backingFile(name).startsWith(`${directory}/`)).map((name) => `/dev/${name}`);
}

function backingFile(loop: string): string {
  try {
    return readFileSync(`/sys/block/${loop}/loop/backing_file`, 'utf8').trim();
  } catch {
    return '';
  }
}
