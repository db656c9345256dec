// A file on ext4 to a file that is not there yet, and to one whose room has been set aside: beside cp, Node and dd. The file system
// is on a loop device in memory; whoever goes through the page cache makes the copy durable, and that counts.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { formatBytes } from '../cli/format.js';
import { output, run } from '../test/support/command.js';
import { hasExt4, hasMount, programs } from '../test/support/machine.js';
import { Workshop } from '../test/support/workshop.js';
import {
  atLeast,
  type Case,
  COPY_COLUMNS,
  chosen,
  type Goal,
  type Result,
  row,
  type Setting,
  withRates,
} from './case.js';
import { copied, kcopydCopies, peerCopies, type Subject } from './contenders.js';
import { needRoom } from './disks.js';
import { installPeers, isInstalled, type Peer } from './peers.js';
import { type Contender, type Places, type Row, ratio, rounds } from './rounds.js';
import { command } from './timed.js';

const GIB = 2 ** 30;
const LONG_MS = 600_000;
const KCOPYD = 'kcopyd';
/** Of the file system, beyond what the two files take: its journal and tables. */
const SPARE_BYTES = 2 ** 28;

/** Where the copy goes. */
type Target = 'new' | 'preallocated';

/** Two files on one file system, the second of which is made anew before each run. */
class TwoFiles implements Places {
  readonly source: { readonly path: string };
  readonly destinations: readonly { readonly path: string }[];

  readonly bytes: number;
  readonly #target: Target;

  private constructor(directory: string, bytes: number, target: Target) {
    this.bytes = bytes;
    this.#target = target;
    this.source = { path: join(directory, 'source') };
    this.destinations = [{ path: join(directory, 'copy') }];
  }

  static async make(workshop: Workshop, bytes: number, target: Target): Promise<TwoFiles> {
    const { path } = await workshop.loop({ bytes: 2 * bytes + SPARE_BYTES });
    await output('mkfs.ext4', ['-q', '-E', 'lazy_itable_init=0,lazy_journal_init=0', path]);
    const directory = await workshop.mount(path);
    const files = new TwoFiles(directory, bytes, target);
    await workshop.file({ bytes, seed: 'bench', path: files.source.path });
    // Written once before the first run, so that no run pays for the memory below the file system.
    await workshop.file({ bytes, seed: 'other', path: files.destinations[0]!.path });
    return files;
  }

  async spoil(): Promise<void> {
    const { path } = this.destinations[0]!;
    await rm(path, { force: true });
    if (this.#target === 'preallocated') await output('fallocate', ['--length', String(this.bytes), path]);
    await output('sync', ['--file-system', this.source.path]);
    await forget(this.source.path);
  }

  async compare(): Promise<void> {
    const { path } = this.destinations[0]!;
    // What is compared is what the device holds.
    await forget(path);
    const { code, stdout, stderr } = await run('cmp', [this.source.path, path], { timeoutMs: LONG_MS });
    if (code !== 0) throw new Error(`${path} is no copy: ${stdout}${stderr}`);
  }
}

/** Has the page cache give up a file, after what is not on the device yet has been written there. */
async function forget(path: string): Promise<void> {
  await output('sync', [path]);
  await output('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none']);
}

function peers(target: Target): readonly Peer[] {
  const dd = (name: string, flags: readonly string[], isBuffered: boolean): Peer => ({
    name,
    program: 'dd',
    debianPackage: 'coreutils',
    isBuffered,
    script: (from, [to]) => command('dd', `if=${from}`, `of=${to}`, ...flags, `conv=${keep}fdatasync`, 'status=none'),
  });
  const keep = target === 'preallocated' ? 'notrunc,' : '';
  return [
    {
      name: 'cp',
      program: 'cp',
      debianPackage: 'coreutils',
      isBuffered: true,
      // It has no way of its own to make a copy durable, and gives the room of a file that is there back first.
      script: (from, [to]) => `${command('cp', from, to!)} && sync --data ${to}`,
    },
    dd('dd, 4 MiB direct', ['bs=4M', 'iflag=direct', 'oflag=direct'], false),
    dd('dd, 1 MiB', ['bs=1M'], true),
  ];
}

function nodeCopies(start: Subject): Contender {
  return {
    name: 'fs.copyFile',
    role: 'peer',
    detail: `Node ${process.version}, through the page cache`,
    run: async ({ source, destinations, bytes }) => {
      const to = destinations.map(({ path }) => path);
      return copied(await start({ kind: 'copyFile', source: source.path, destinations: to, bytes, client: {} }));
    },
  };
}

async function files({ wishes, start, say }: Setting, target: Target): Promise<Result> {
  for (const facility of [await hasExt4(), await hasMount(), programs('fallocate', 'sync', 'dd')]) {
    if (!facility.available) throw new Error(facility.reason);
  }
  const bytes = Math.min(wishes.size, GIB);
  const all = peers(target);
  const missing = await installPeers(all, wishes.install);
  const contenders: Contender[] = [
    kcopydCopies(start, KCOPYD, 'kcopyd', { client: wishes.client, create: target === 'new' }),
    nodeCopies(start),
  ];
  for (const peer of all.filter(isInstalled)) contenders.push(await peerCopies(peer, 1));
  const roomBytes = 2 * bytes + SPARE_BYTES;
  await needRoom(roomBytes);
  const workshop = new Workshop({ roomBytes });
  try {
    const ground = await TwoFiles.make(workshop, bytes, target);
    const rows = withRates(await rounds(chosen(contenders, wishes.only), ground, { ...wishes, say }));
    return {
      rows,
      goals: fileGoals(rows),
      columns: COPY_COLUMNS,
      notes: [
        `a file of ${formatBytes(bytes)} on ext4 to a ${target} file there; the source is not in the page cache, and the copy is durable at the end`,
        ...missing.map((peer) => `not installed: ${peer}`),
      ],
    };
  } finally {
    await workshop.dispose();
  }
}

function fileGoals(rows: readonly Row[]): Goal[] {
  const ours = row(rows, KCOPYD);
  const others = rows.filter(({ role }) => role === 'peer');
  if (!ours || others.length === 0) return [];
  const part = ratio(ours, others, 'bytesPerSecond', 'largest');
  return [atLeast('throughput, in parts of the best peer of the same run', part, 1)];
}

/** To either kind of file. */
export const FILES: readonly Case[] = [
  { name: 'file-new', about: 'a file on ext4 to a new one', run: (setting) => files(setting, 'new') },
  {
    name: 'file-preallocated',
    about: 'a file on ext4 to one whose room was set aside',
    run: (setting) => files(setting, 'preallocated'),
  },
];
