// Making a large device zero, beside blkdiscard. The device is a file on ext4, which notes that a range is zero: what is measured
// is how the calls for large ranges get there, not how fast memory is. (A loop device on tmpfs would not do: that cannot note it,
// and the kernel writes the zeros.)
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { formatBytes } from '../cli/format.js';
import { output, run } from '../test/support/command.js';
import { hasExt4 } from '../test/support/machine.js';
import { type LoopDevice, Workshop } from '../test/support/workshop.js';
import { atLeast, atMost, type Case, chosen, type Goal, type Result, row, type Setting, withRates } from './case.js';
import { copied, peerCopies, type Subject } from './contenders.js';
import { needRoom } from './disks.js';
import { installPeers, isInstalled, type Peer } from './peers.js';
import { type Contender, type Places, type Row, ratio, rounds } from './rounds.js';
import type { ClientWishes } from './task.js';
import { command } from './timed.js';

const KIB = 1 << 10;
const GIB = 2 ** 30;
const DEVICE_BYTES = 8 * GIB;
/** A page of data in every stretch of this: many short ranges that the file system has to note as zero one by one. */
const STRETCH_BYTES = 64 * KIB;
const PAGE_BYTES = 4 * KIB;
/** Of the file system that the device is on. All of its memory is bounded: whoever wrote the zeros would find no room. */
const FILE_SYSTEM_BYTES = 9 * GIB;
const ROOM_BYTES = GIB;
const LONG_MS = 600_000;
const KCOPYD = 'kcopyd';

const BLKDISCARD: Peer = {
  name: 'blkdiscard -z',
  program: 'blkdiscard',
  debianPackage: 'util-linux',
  script: (_, [to]) => command('blkdiscard', '-z', to!),
};

/** A device with scattered data. */
class Sparse implements Places {
  readonly bytes: number = DEVICE_BYTES;
  readonly source: LoopDevice;
  readonly destinations: readonly LoopDevice[];

  constructor(device: LoopDevice) {
    this.source = device;
    this.destinations = [device];
  }

  async spoil(): Promise<void> {
    const file = openSync(this.source.file, 'r+');
    const page = Buffer.alloc(PAGE_BYTES, 0xa5);
    try {
      for (let at = 0; at < DEVICE_BYTES; at += STRETCH_BYTES) writeSync(file, page, 0, PAGE_BYTES, at);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    await run('blockdev', ['--flushbufs', this.source.path]);
  }

  async compare(): Promise<void> {
    // Read past the page cache, which is not to be filled with zeros.
    const script = 'dd if="$0" bs=4M iflag=direct status=none | cmp --bytes="$1" - /dev/zero';
    const args = ['-c', script, this.source.path, String(DEVICE_BYTES)];
    const { code, stdout, stderr } = await run('bash', args, { timeoutMs: LONG_MS });
    if (code !== 0) throw new Error(`${this.source.path} is not zero: ${stdout}${stderr}`);
  }
}

async function sparseDevice(workshop: Workshop): Promise<LoopDevice> {
  const room = await workshop.tmpfs(ROOM_BYTES);
  const below = await workshop.loop({ bytes: FILE_SYSTEM_BYTES, path: join(room, 'file-system') });
  // Few inodes and no journal: tables are all that takes memory.
  await output('mkfs.ext4', ['-q', '-O', '^has_journal', '-N', '16', '-m', '0', below.path]);
  return workshop.loop({ bytes: DEVICE_BYTES, path: join(await workshop.mount(below.path), 'device') });
}

function kcopydZeroes(start: Subject, client: ClientWishes): Contender {
  return {
    name: KCOPYD,
    role: 'kcopyd',
    run: async ({ source: { path }, bytes }) => {
      const told = await start({ kind: 'zero', source: path, destinations: [path], bytes, client });
      return { ...copied(told), writtenZeroBytes: told.writtenZeroBytes! };
    },
  };
}

async function zeroes({ wishes, start, say }: Setting): Promise<Result> {
  const missing = await installPeers([BLKDISCARD], wishes.install);
  const contenders = [kcopydZeroes(start, wishes.client)];
  if (isInstalled(BLKDISCARD)) contenders.push(await peerCopies(BLKDISCARD, 1));
  const tools = await hasExt4();
  if (!tools.available) throw new Error(tools.reason);
  await needRoom(ROOM_BYTES);
  const workshop = new Workshop();
  try {
    const ground = new Sparse(await sparseDevice(workshop));
    const rows = withRates(await rounds(chosen(contenders, wishes.only), ground, { ...wishes, say }));
    return {
      rows,
      goals: zeroGoals(rows),
      columns: ['seconds', 'bytesPerSecond', 'cpuSecondsPerGib', 'machineCpuSecondsPerGib', 'loopDelayP99Ms'],
      notes: [
        `${formatBytes(DEVICE_BYTES)}, with a page of data in every ${formatBytes(STRETCH_BYTES)}, on a loop device over a sparse file on ext4, which is in memory`,
        ...missing.map((peer) => `not installed: ${peer}`),
      ],
    };
  } finally {
    await workshop.dispose();
  }
}

function zeroGoals(rows: readonly Row[]): Goal[] {
  const [ours, peer] = [row(rows, KCOPYD), row(rows, BLKDISCARD.name)];
  if (!ours) return [];
  const written = atMost('bytes that were written as zeros', ours.summary.writtenZeroBytes!.max, 0);
  if (!peer) return [written];
  return [atLeast('throughput, in parts of blkdiscard', ratio(ours, [peer], 'bytesPerSecond', 'largest'), 1), written];
}

/** One. */
export const ZEROES: readonly Case[] = [{ name: 'zero-8gib', about: 'zero(), beside blkdiscard -z', run: zeroes }];
