// Making a large device zero, beside blkdiscard. Most of the device is a hole from the beginning: what is measured is how the calls
// for large ranges get there, not how fast memory is.
import { open } from 'node:fs/promises';
import { formatBytes } from '../cli/format.js';
import { run } from '../test/support/command.js';
import { type LoopDevice, Workshop } from '../test/support/workshop.js';
import { atLeast, atMost, type Case, chosen, type Goal, type Result, row, type Setting, withRates } from './case.js';
import { copied, peerCopies, type Subject } from './contenders.js';
import { needRoom } from './disks.js';
import { installPeers, isInstalled, type Peer } from './peers.js';
import { type Contender, type Places, type Row, ratio, rounds } from './rounds.js';
import type { ClientWishes } from './task.js';
import { command } from './timed.js';

const MIB = 1 << 20;
const GIB = 2 ** 30;
const DEVICE_BYTES = 8 * GIB;
const DATA_BYTES = GIB;
const CHUNK_BYTES = 8 * MIB;
const LONG_MS = 600_000;
const KCOPYD = 'kcopyd';

const BLKDISCARD: Peer = {
  name: 'blkdiscard -z',
  program: 'blkdiscard',
  debianPackage: 'util-linux',
  script: (_, [to]) => command('blkdiscard', '-z', to!),
};

/** A device that begins with data. */
class Sparse implements Places {
  readonly bytes: number = DEVICE_BYTES;
  readonly source: LoopDevice;
  readonly destinations: readonly LoopDevice[];

  constructor(device: LoopDevice) {
    this.source = device;
    this.destinations = [device];
  }

  async spoil(): Promise<void> {
    const handle = await open(this.source.file, 'r+');
    const chunk = Buffer.alloc(CHUNK_BYTES, 0xa5);
    try {
      for (let at = 0; at < DATA_BYTES; at += CHUNK_BYTES) await handle.write(chunk, 0, CHUNK_BYTES, at);
    } finally {
      await handle.close();
    }
    await run('blockdev', ['--flushbufs', this.source.path]);
  }

  async compare(): Promise<void> {
    const args = ['--bytes', String(DEVICE_BYTES), this.source.file, '/dev/zero'];
    const { code, stdout, stderr } = await run('cmp', args, { timeoutMs: LONG_MS });
    if (code !== 0) throw new Error(`${this.source.path} is not zero: ${stdout}${stderr}`);
  }
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
  await needRoom(DATA_BYTES);
  const workshop = new Workshop({ roomBytes: DATA_BYTES });
  try {
    const ground = new Sparse(await workshop.loop({ bytes: DEVICE_BYTES }));
    const rows = withRates(await rounds(chosen(contenders, wishes.only), ground, { ...wishes, say }));
    return {
      rows,
      goals: zeroGoals(rows),
      columns: ['seconds', 'bytesPerSecond', 'cpuSecondsPerGib', 'machineCpuSecondsPerGib', 'loopDelayP99Ms'],
      notes: [
        `${formatBytes(DEVICE_BYTES)}, of which the first ${formatBytes(DATA_BYTES)} hold data, on a loop device over a sparse file in memory`,
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
