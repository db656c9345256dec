// Devices that take their time: whether as much is under way as pool and depth allow. By Little's law, what n pieces under way
// at once can do is n times what one alone does. It measures no peers.
import { formatBytes } from '../cli/format.js';
import { isRoot, programs } from '../test/support/machine.js';
import { Workshop } from '../test/support/workshop.js';
import { atLeast, type Case, chosen, type Goal, type Result, row, type Setting, withRates } from './case.js';
import { bareRing, kcopydCopies, smallJobs } from './contenders.js';
import { type Disk, Disks, needRoom } from './disks.js';
import { type Contender, type Row, ratio, rounds } from './rounds.js';

const KIB = 1 << 10;
const MIB = 1 << 20;
const DEVICE_BYTES = 32 * MIB;
const PAGE_BYTES = 4 * KIB;
/** kcopyd's own piece, and how many of them the pools hold. */
const PIECE_BYTES = 512 * KIB;
const POOLS_PIECES = [2, 8] as const;
/** So many requests the devices take at once; more would measure them, not us. */
const DEVICE_DEPTH = 8;
const ALONE_JOBS = 256;
const PART = 0.95;

/** One way of keeping something under way, and how much that is. */
interface Shape {
  readonly contender: Contender;
  readonly atOnce: number;
  /** The names of what does the same with one piece at a time, and of a bare ring that has as much under way. */
  readonly alone: string;
  readonly same: string;
}

function shapes({ start, wishes }: Setting): readonly Shape[] {
  const { client } = wishes;
  const load = { jobs: DEVICE_BYTES / PAGE_BYTES, depth: DEVICE_DEPTH, jobBytes: PAGE_BYTES, client };
  const large = POOLS_PIECES.map((pieces): Shape => {
    const pages = (pieces * PIECE_BYTES) / PAGE_BYTES;
    const name = `a large job, pool of ${formatBytes(pieces * PIECE_BYTES)}`;
    return {
      contender: kcopydCopies(start, name, 'kcopyd', { client: { ...client, pages } }),
      atOnce: pieces,
      alone: 'one piece of 512 KiB at a time',
      same: bareName('512 KiB', pieces),
    };
  });
  const small = smallJobs(start, 'submitCopy', 'kcopyd', load);
  return [
    ...large,
    {
      contender: { ...small, name: `4 KiB jobs, ${DEVICE_DEPTH} at once` },
      atOnce: DEVICE_DEPTH,
      alone: '4 KiB at a time',
      same: bareName('4 KiB', DEVICE_DEPTH),
    },
  ];
}

function bareName(piece: string, depth: number): string {
  return `a bare ring, ${piece}, ${depth} at once`;
}

async function latency(setting: Setting, delayMs: number): Promise<Result> {
  const { wishes, say, example } = setting;
  const ring = await example('bare_ring');
  const all = shapes(setting);
  const large = { pieceBytes: PIECE_BYTES, order: 'ascending' } as const;
  const small = { pieceBytes: PAGE_BYTES, order: 'scattered' } as const;
  const ceilings = [
    bareRing(ring, { ...large, depth: 1 }, 'one piece of 512 KiB at a time'),
    bareRing(ring, { ...small, depth: 1, pieces: ALONE_JOBS, isPart: true }, '4 KiB at a time'),
    ...POOLS_PIECES.map((depth) => bareRing(ring, { ...large, depth }, bareName('512 KiB', depth))),
    bareRing(ring, { ...small, depth: DEVICE_DEPTH }, bareName('4 KiB', DEVICE_DEPTH)),
  ];
  const contenders = chosen([...all.map(({ contender }) => contender), ...ceilings], wishes.only);
  const rows = withRates(await withDelays(delayMs, (disks) => rounds(contenders, disks, { ...wishes, say })));
  return {
    rows,
    goals: all.flatMap((shape) => latencyGoals(rows, shape)),
    columns: ['bytesPerSecond', 'seconds', 'cpuSecondsPerGib', 'loopDelayP99Ms'],
    notes: [
      `${formatBytes(DEVICE_BYTES)}; every read and every write takes ${delayMs} ms more than the way to the device and back: nbdkit's delay filter, by way of FUSE, under a loop device`,
      ...ceilingNotes(rows),
    ],
  };
}

function latencyGoals(rows: readonly Row[], { contender, atOnce, alone, same: bare }: Shape): Goal[] {
  const [ours, base] = [row(rows, contender.name), row(rows, alone)];
  const same = row(rows, bare);
  if (!ours || !base) return [];
  const part = ratio(ours, [base], 'bytesPerSecond', 'largest') / atOnce;
  const goals = [atLeast(`${ours.name}: in parts of ${atOnce} × ${alone}`, part, PART)];
  if (same) {
    const text = `${ours.name}: in parts of a bare ring with as many`;
    goals.push(atLeast(text, ratio(ours, [same], 'bytesPerSecond', 'largest'), PART));
  }
  return goals;
}

/** What one piece alone takes is what Little's law is computed with. */
function ceilingNotes(rows: readonly Row[]): string[] {
  const sizes: readonly (readonly [string, number])[] = [
    ['one piece of 512 KiB at a time', PIECE_BYTES],
    ['4 KiB at a time', PAGE_BYTES],
  ];
  return sizes.flatMap(([name, bytes]) => {
    const rate = row(rows, name)?.summary.bytesPerSecond?.median;
    if (rate === undefined) return [];
    return [`${name}: ${((bytes / rate) * 1000).toFixed(2)} ms from the begin of its read to the end of its write`];
  });
}

/** A source and a destination that take so long for every request, for as long as it lasts. */
async function withDelays<T>(delayMs: number, body: (disks: Disks) => Promise<T>): Promise<T> {
  const tools = programs('nbdkit', 'nbdfuse', 'fusermount3');
  if (!tools.available) throw new Error(`${tools.reason}: install nbdkit, libnbd-bin and fuse3`);
  if (!(await isRoot()).available) throw new Error('loop devices need root: run the benchmark as root');
  await needRoom(2 * DEVICE_BYTES);
  const workshop = new Workshop();
  const slow = async (file: string): Promise<Disk> => {
    const delay = { kind: 'slow', file, readMs: delayMs, writeMs: delayMs, atOnce: DEVICE_DEPTH } as const;
    const faulty = await workshop.faulty(delay);
    faulty.allowAtOnce(await workshop.fuseControl(), DEVICE_DEPTH);
    return { ...(await workshop.attach(faulty.path)), file, by: faulty.path };
  };
  try {
    const source = await slow(await workshop.file({ bytes: DEVICE_BYTES, seed: 'bench' }));
    const destination = await slow(await workshop.file({ bytes: DEVICE_BYTES }));
    return await body(new Disks(source, [destination], DEVICE_BYTES));
  } finally {
    await workshop.dispose();
  }
}

/** From the fast one to the slow one. */
export const LATENCY: readonly Case[] = [
  {
    name: 'latency-1ms',
    about: 'devices that take 1 ms for every request',
    run: (setting) => latency(setting, 1),
  },
  {
    name: 'latency-10ms',
    about: 'devices that take 10 ms for every request',
    run: (setting) => latency(setting, 10),
  },
];
