// Whole devices to one, three, eight others, beside everybody who copies devices; and the memory that takes in the long run. It
// refuses to know how a contender is run and how a result is printed.
import { formatBytes } from '../cli/format.js';
import {
  atLeast,
  atMost,
  type Case,
  COPY_COLUMNS,
  chosen,
  type Goal,
  type Result,
  row,
  type Setting,
  withDisks,
  withRates,
} from './case.js';
import { AS_WHOLE_DEVICES, bareRing, kcopydCopies, peerCopies } from './contenders.js';
import { installPeers, isInstalled, ONE_TO_MANY, ONE_TO_ONE, type Peer } from './peers.js';
import { type Contender, type Row, ratio, rounds } from './rounds.js';

const MIB = 1 << 20;
const GIB = 2 ** 30;
const MEMORY_BYTES = 16 * GIB;
const KCOPYD = 'kcopyd';

async function copies(setting: Setting, destinations: number, peers: readonly Peer[], wanted: number): Promise<Result> {
  const { wishes, start, say, example } = setting;
  const missing = await installPeers(peers, wishes.install);
  for (const peer of missing) say(`not installed, not compared with: ${peer}`);
  const own = [
    kcopydCopies(start, KCOPYD, 'kcopyd', { client: wishes.client }),
    kcopydCopies(start, 'kcopyd threads', 'variant', { client: { ...wishes.client, engine: 'threads' } }),
    bareRing(await example('bare_ring'), AS_WHOLE_DEVICES),
  ];
  const names = [...own, ...peers.filter(isInstalled)].map(({ name }) => ({ name }));
  const wantedNames = new Set(chosen(names, wishes.only).map(({ name }) => name));
  const contenders: Contender[] = own.filter(({ name }) => wantedNames.has(name));
  for (const peer of peers.filter((peer) => isInstalled(peer) && wantedNames.has(peer.name))) {
    contenders.push(await peerCopies(peer, destinations));
  }
  const rows = withRates(
    await withDisks(wishes.size, destinations, (disks) => rounds(contenders, disks, { ...wishes, say })),
  );
  return {
    rows,
    goals: copyGoals(rows, wanted),
    columns: COPY_COLUMNS,
    notes: [
      `${formatBytes(wishes.size)} of random bytes to ${destinations === 1 ? '1 destination' : `${destinations} destinations`}, loop devices over tmpfs`,
      ...missing.map((peer) => `not installed: ${peer}`),
    ],
  };
}

function copyGoals(rows: readonly Row[], wanted: number): Goal[] {
  const ours = row(rows, KCOPYD);
  const peers = rows.filter(({ role }) => role === 'peer');
  if (!ours) return [];
  const qemu = row(rows, 'qemu-img io_uring') ?? row(rows, 'qemu-img quorum io_uring');
  const bare = row(rows, 'bare ring');
  const best = 'throughput, in parts of the best peer of the same run';
  return [
    ...(peers.length > 0 ? [atLeast(best, ratio(ours, peers, 'bytesPerSecond', 'largest'), wanted)] : []),
    ...(qemu
      ? [
          atMost(
            `processor time for a GiB, in parts of ${qemu.name}'s`,
            ratio(ours, [qemu], 'cpuSecondsPerGib', 'smallest'),
            0.35,
          ),
        ]
      : []),
    ...(bare
      ? [atLeast('throughput, in parts of a bare ring', ratio(ours, [bare], 'bytesPerSecond', 'largest'), 0.97)]
      : []),
    ...(ours.summary.sourceReads ? [atMost('times that the source is read', ours.summary.sourceReads.max, 1)] : []),
    atMost('event loop: delay of 99 in 100, ms', ours.summary.loopDelayP99Ms?.median ?? Number.NaN, 5),
  ];
}

async function memory({ wishes, start, say }: Setting): Promise<Result> {
  const bytes = Math.min(wishes.size, GIB);
  const times = MEMORY_BYTES / bytes;
  const contender = kcopydCopies(start, KCOPYD, 'kcopyd', { client: wishes.client, times });
  const rows = withRates(
    await withDisks(bytes, 1, (disks) =>
      rounds([contender], disks, { ...wishes, runs: Math.min(3, wishes.runs), warmUps: 0, say }),
    ),
  );
  const { residentBytes, residentGrowthBytes } = rows[0]!.summary;
  return {
    rows,
    goals: [
      atMost(
        'growth of resident memory from the first device copied to the last, MiB',
        residentGrowthBytes!.median / MIB,
        1,
      ),
    ],
    columns: ['bytesPerSecond', 'residentBytes', 'residentGrowthBytes', 'loopDelayP99Ms'],
    notes: [
      `${formatBytes(bytes)} copied ${times} times in one process: ${formatBytes(bytes * times)}; largest resident set ${formatBytes(residentBytes!.median)}, Node and the pool included`,
    ],
  };
}

/** In the order in which people want to know. */
export const WHOLE_DEVICES: readonly Case[] = [
  {
    name: 'copy-1to1',
    about: 'a whole device to one other, beside every peer',
    run: (setting) => copies(setting, 1, ONE_TO_ONE, 1.05),
  },
  {
    name: 'copy-1to3',
    about: 'a whole device to three others at once',
    run: (setting) => copies(setting, 3, ONE_TO_MANY, 1.2),
  },
  {
    name: 'copy-1to8',
    about: 'a whole device to eight others at once',
    run: (setting) => copies(setting, 8, ONE_TO_MANY, 1.2),
  },
  { name: 'memory-16gib', about: 'resident memory over 16 GiB in one process', run: memory },
];
