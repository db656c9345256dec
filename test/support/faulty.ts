// Files that fail on demand: nbdkit with a fault filter, shown as one file by nbdfuse. A loop device on such a file is a block
// device that fails the same way. The faults are the ones tried out in docs/TESTING.md; which test uses which, it does not know.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync, statSync, watch, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { output, runSync } from './command.js';

/** Part of a device, in bytes. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** What a request may fail with, EIO unless said otherwise. A loop device makes EIO of most of them. */
export type ErrorCode = 'EPERM' | 'EIO' | 'ENOMEM' | 'EINVAL' | 'ENOSPC' | 'ESHUTDOWN';

/** What is wrong with a file. Every one of them but `bad-reads` can be written, and those with a `file` begin with its bytes. */
export type Fault =
  /** Reading these ranges is EIO, always; all else reads as `file` does. Not to be written. */
  | { readonly kind: 'bad-reads'; readonly file: string; readonly bytes: number; readonly bad: readonly ByteRange[] }
  /** Every read fails while the fault is on. */
  | { readonly kind: 'read-errors'; readonly file: string; readonly code?: ErrorCode }
  /** Every write, zeroes among them, fails while the fault is on. */
  | { readonly kind: 'write-errors'; readonly file: string; readonly code?: ErrorCode }
  /** A write that touches this range is EIO while the fault is on. One process a request: for small devices. */
  | { readonly kind: 'bad-writes'; readonly file: string; readonly bad: ByteRange }
  /** Every flush is EIO while the fault is on; writes succeed. One process a request. */
  | { readonly kind: 'flush-errors'; readonly file: string }
  /** Every write is ENOSPC; reads give zeros. */
  | { readonly kind: 'full'; readonly bytes: number }
  /** Each request takes so long; so many at once, no more than ten, four unless said otherwise. */
  | {
      readonly kind: 'slow';
      readonly file: string;
      readonly readMs?: number;
      readonly writeMs?: number;
      readonly atOnce?: number;
    }
  /** A write that is not what `reference` holds at the same place is EIO: it judges, byte for byte, and keeps nothing. */
  | { readonly kind: 'judge'; readonly reference: string }
  /** Nothing fails; each write takes so long, and `writes` tells which there were. */
  | { readonly kind: 'logged'; readonly file: string; readonly writeMs: number };

const READY_MS = 10_000;

/** A file that fails as told. Its fault is on from the beginning, where it can be turned on and off. */
export class FaultyFile {
  /** The file. */
  readonly path: string;
  readonly #directory: string;
  readonly #trigger: string;
  readonly #server: ChildProcess;
  readonly #ended: Promise<void>;

  /** The kernel's number for the connection with the server: that of the file system's device. */
  #connection = 0;

  private constructor(directory: string, server: ChildProcess) {
    this.#directory = directory;
    this.path = join(directory, 'mount', 'device');
    this.#trigger = join(directory, 'trigger');
    this.#server = server;
    this.#ended = new Promise((resolve) => server.once('exit', () => resolve()));
  }

  /** Makes one in a new directory. */
  static async start(directory: string, fault: Fault): Promise<FaultyFile> {
    await mkdir(join(directory, 'mount'), { recursive: true });
    writeFileSync(join(directory, 'trigger'), '');
    if (fault.kind === 'bad-reads') writeFileSync(join(directory, 'map'), rescueMap(fault.bytes, fault.bad));
    const pidFile = join(directory, 'pid');
    const [program, ...args] = command(directory, pidFile, fault);
    const server = spawn(program!, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    server.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const faulty = new FaultyFile(directory, server);
    try {
      await appears(directory, pidFile, server);
      // An anonymous device's major number is 0, and its minor number has 20 bits, of which the lower 8 stand apart.
      const { dev } = statSync(join(directory, 'mount'));
      faulty.#connection = (dev & 0xff) | ((dev >>> 12) & 0xfff00);
    } catch (error) {
      await faulty.stop();
      throw new Error(`${fault.kind}: nbdfuse did not start: ${said.trim()}`, { cause: error });
    }
    return faulty;
  }

  /** Turns the fault on. */
  fail(): void {
    writeFileSync(this.#trigger, '');
  }

  /** Turns the fault off. */
  heal(): void {
    rmSync(this.#trigger, { force: true });
  }

  /** From now on requests never complete, until `resume`. */
  stick(): void {
    this.#server.kill('SIGSTOP');
  }

  /** Of a logged file: where each write began and how long it was, in bytes, in the order in which they were begun. */
  writes(): ByteRange[] {
    const log = readFileSync(join(this.#directory, 'log'), 'utf8');
    return [...log.matchAll(/ Write id=\d+ offset=(\S+) count=(\S+) /g)].map(([, offset, length]) => {
      return { offset: Number(offset), length: Number(length) };
    });
  }

  /** Ends `stick`. */
  resume(): void {
    this.#server.kill('SIGCONT');
  }

  /** The device vanishes: requests in flight fail, and so do all later ones. */
  async vanish(): Promise<void> {
    this.#server.kill('SIGKILL');
    await this.#ended;
  }

  /** Lets the kernel have so many direct requests with the file under way at once; it is 12 otherwise. */
  allowAtOnce(control: string, requests: number): void {
    const directory = join(control, String(this.#connection));
    for (const bound of ['max_background', 'congestion_threshold'])
      writeFileSync(join(directory, bound), String(requests));
  }

  /** The kernel gives the file up, as `umount -f` would: requests in flight fail at once, also those that are stuck. */
  abort(control: string): void {
    writeFileSync(join(control, String(this.#connection), 'abort'), '1');
  }

  /** Takes it away; what still uses it gets errors. */
  async stop(): Promise<void> {
    this.resume();
    if (this.#server.exitCode === null && this.#server.signalCode === null && this.#server.pid !== undefined) {
      await output('fusermount3', ['-u', '-z', this.#mountPoint]).catch(() => this.#server.kill('SIGKILL'));
      const stuck = setTimeout(() => this.#server.kill('SIGKILL'), 5_000);
      await this.#ended;
      clearTimeout(stuck);
    } else {
      runSync('fusermount3', ['-u', '-z', '-q', this.#mountPoint]);
    }
  }

  /** The same, without waiting, for the end of the process. */
  stopNow(): void {
    runSync('fusermount3', ['-u', '-z', '-q', this.#mountPoint]);
    this.#server.kill('SIGKILL');
  }

  get #mountPoint(): string {
    return join(this.#directory, 'mount');
  }
}

/** Waits for a file to appear in a directory, or for the program that should make it to end. */
async function appears(directory: string, file: string, program: ChildProcess): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const watcher = watch(directory, () => existsSync(file) && finish());
    const deadline = setTimeout(() => finish(new Error(`not ready after ${READY_MS} ms`)), READY_MS);
    const ended = (): void => finish(new Error('it ended at once'));
    const finish = (error?: Error): void => {
      watcher.close();
      clearTimeout(deadline);
      program.off('exit', ended).off('error', finish);
      if (error) reject(error);
      else resolve();
    };
    program.once('exit', ended).once('error', finish);
    if (existsSync(file)) finish();
  });
}

/**
 * nbdfuse in front of nbdkit. What nbdfuse starts itself has one connection, which takes about four requests at once; to a
 * server that is there before, it has as many as it is told to, for FUSE's ten threads.
 */
function command(directory: string, pidFile: string, fault: Fault): string[] {
  const options = ['--pidfile', pidFile];
  const file = join(directory, 'mount', 'device');
  const server = nbdkitArguments(directory, fault);
  if (fault.kind !== 'slow' || fault.atOnce === undefined) {
    return ['nbdfuse', ...options, file, '[', 'nbdkit', '--exit-with-parent', ...server, ']'];
  }
  const fuse = ['exec', 'nbdfuse', '--connections', String(fault.atOnce), ...options, file].join(' ');
  return ['nbdkit', '--unix', '-', ...server, '--run', `${fuse} "$uri"`];
}

function nbdkitArguments(directory: string, fault: Fault): string[] {
  const trigger = join(directory, 'trigger');
  switch (fault.kind) {
    case 'bad-reads':
      return ['-r', '--filter=ddrescue', 'file', fault.file, `ddrescue-mapfile=${join(directory, 'map')}`];
    case 'read-errors': {
      const error = `error=${fault.code ?? 'EIO'}`;
      return ['--filter=error', 'file', fault.file, error, 'error-pread-rate=1', `error-file=${trigger}`];
    }
    case 'write-errors': {
      const error = `error=${fault.code ?? 'EIO'}`;
      const rates = ['error-pwrite-rate=1', 'error-zero-rate=1'];
      return ['--filter=error', 'file', fault.file, error, ...rates, `error-file=${trigger}`];
    }
    case 'bad-writes': {
      const { offset, length } = fault.bad;
      const hit = `[ -e '${trigger}' ] && [ $4 -lt ${offset + length} ] && [ $(($4 + $3)) -gt ${offset} ]`;
      return evalArguments(fault.file, { pwrite: `if ${hit}; then echo EIO bad >&2; exit 1; fi; ` });
    }
    case 'flush-errors':
      return evalArguments(fault.file, { flush: `if [ -e '${trigger}' ]; then echo EIO flush >&2; exit 1; fi; ` });
    case 'judge':
      return ['--filter=checkwrite', 'file', fault.reference];
    case 'full':
      return ['full', String(fault.bytes)];
    case 'slow': {
      const { readMs = 0, writeMs = 0 } = fault;
      return ['--filter=delay', 'file', fault.file, `delay-read=${readMs}ms`, `delay-write=${writeMs}ms`];
    }
    case 'logged': {
      const options = [`delay-write=${fault.writeMs}ms`, `logfile=${join(directory, 'log')}`];
      return ['--filter=log', '--filter=delay', 'file', fault.file, ...options];
    }
  }
}

/** A device of shell scripts on a file, with something before its writes or its flushes. */
function evalArguments(file: string, before: { pwrite?: string; flush?: string }): string[] {
  return [
    'eval',
    `get_size=stat -c %s '${file}'`,
    `pread=dd if='${file}' skip=$4 count=$3 iflag=count_bytes,skip_bytes status=none`,
    `pwrite=${before.pwrite ?? ''}dd of='${file}' seek=$4 conv=notrunc oflag=seek_bytes status=none`,
    'can_write=exit 0',
    'can_flush=exit 0',
    `flush=${before.flush ?? ''}exit 0`,
  ];
}

/** A ddrescue map: '+' can be read, '-' cannot. */
function rescueMap(bytes: number, bad: readonly ByteRange[]): string {
  const lines = ['0x0 + 1'];
  const line = (offset: number, length: number, state: string): void => {
    if (length > 0) lines.push(`0x${offset.toString(16)} 0x${length.toString(16)} ${state}`);
  };
  let position = 0;
  for (const { offset, length } of [...bad].sort((a, b) => a.offset - b.offset)) {
    line(position, offset - position, '+');
    line(offset, length, '-');
    position = offset + length;
  }
  line(position, bytes - position, '+');
  return `${lines.join('\n')}\n`;
}
