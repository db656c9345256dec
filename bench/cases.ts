// What is measured: each case names its contenders, makes its devices, and says which goals it is about. It refuses to know how
// a contender is run and how a result is printed.
import { formatBytes } from '../cli/format.js';
import { run } from '../test/support/command.js';
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
import { bareRing, coreJobs, kcopydCopies, peerCopies, smallJobs } from './contenders.js';
import { summarizeAll } from './numbers.js';
import { installPeers, isInstalled, ONE_TO_MANY, ONE_TO_ONE, type Peer } from './peers.js';
import { type Contender, type Row, ratio, rounds, type Sample } from './rounds.js';
import { TUNING } from './tuning.js';

const MIB = 1 << 20;
const GIB = 2 ** 30;
const SMALL_DEVICE_BYTES = 256 * MIB;
const MEMORY_BYTES = 16 * GIB;
const KCOPYD = 'kcopyd';
const JOB_COLUMNS = ['jobsPerSecond', 'cpuMicrosecondsPerJob', 'loopDelayP99Ms', 'jobsPerSubmission', 'residentBytes'];

async function copies(setting: Setting, destinations: number, peers: readonly Peer[], wanted: number): Promise<Result> {
  const { wishes, start, say, example } = setting;
  const missing = await installPeers(peers, wishes.install);
  for (const peer of missing) say(`not installed, not compared with: ${peer}`);
  const own = [
    kcopydCopies(start, KCOPYD, 'kcopyd', { client: wishes.client }),
    kcopydCopies(start, 'kcopyd threads', 'variant', { client: { ...wishes.client, engine: 'threads' } }),
    bareRing(await example('bare_ring')),
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

async function small(setting: Setting): Promise<Result> {
  const { wishes, start, say, example } = setting;
  const { jobs, depth, client } = wishes;
  const core = await example('core_jobs');
  const all: Contender[] = [
    smallJobs(start, 'submitCopy', 'kcopyd', wishes),
    smallJobs(start, 'copy', 'kcopyd', wishes),
    smallJobs(start, 'fs.promises', 'peer', { jobs: jobs / 2, depth }),
    smallJobs(start, 'fs.promises direct', 'peer', { jobs: jobs / 2, depth }),
    coreJobs(core, 'core alone', 'variant', jobs, depth, client.engine),
  ];
  const contenders = chosen(all, wishes.only);
  const rows = await withDisks(smallDevice(jobs), 1, (disks) => rounds(contenders, disks, { ...wishes, say }));
  return {
    rows,
    goals: smallGoals(rows),
    columns: JOB_COLUMNS,
    notes: [`${jobs} jobs of 4 KiB, ${depth} under way at once`],
  };
}

/** Half the jobs, the peers' share, copy every page at least once: so that the comparison means something. */
function smallDevice(jobs: number): number {
  return Math.min(SMALL_DEVICE_BYTES, (jobs / 2) * 4096);
}

function smallGoals(rows: readonly Row[]): Goal[] {
  const peers = rows.filter(({ role }) => role === 'peer');
  const core = row(rows, 'core alone');
  const goals: Goal[] = [];
  for (const ours of rows.filter(({ role }) => role === 'kcopyd')) {
    const of = (others: readonly Row[]): number => ratio(ours, others, 'jobsPerSecond', 'largest');
    if (peers.length > 0)
      goals.push(atLeast(`${ours.name}: jobs/s, in parts of the best of fs.promises`, of(peers), 10));
    if (core) goals.push(atLeast(`${ours.name}: jobs/s, in parts of the core alone`, of([core]), 0.5));
    goals.push(atMost(`${ours.name}: event loop, delay of 99 in 100, ms`, ours.summary.loopDelayP99Ms!.median, 5));
  }
  return goals;
}

async function coreOnly({ wishes, say, example }: Setting): Promise<Result> {
  const core = await example('core_jobs');
  const contenders = chosen(
    ['io_uring', 'threads'].map((engine) =>
      coreJobs(core, `core, ${engine}`, 'variant', wishes.jobs, wishes.depth, engine),
    ),
    wishes.only,
  );
  const rows = await withDisks(smallDevice(wishes.jobs), 1, (disks) => rounds(contenders, disks, { ...wishes, say }));
  return {
    rows,
    goals: [],
    columns: JOB_COLUMNS,
    notes: [`${wishes.jobs} jobs of 4 KiB, ${wishes.depth} under way at once, no JavaScript`],
  };
}

const QUEUED = [100, 10_000, 1_000_000];

async function queued({ wishes, start, say, example }: Setting): Promise<Result> {
  const core = await example('core_jobs');
  const jobs = Math.max(wishes.jobs, 1 << 18);
  const named = (contender: Contender, name: string): Contender => ({ ...contender, name });
  const contenders = QUEUED.flatMap((depth) => [
    named(coreJobs(core, '', 'variant', jobs, depth, wishes.client.engine), `core, ${depth} queued`),
    named(
      smallJobs(start, 'submitCopy', 'kcopyd', { ...wishes, jobs: Math.max(jobs, depth), depth }),
      `submitCopy, ${depth} queued`,
    ),
  ]);
  const rows = await withDisks(smallDevice(jobs), 1, (disks) =>
    rounds(chosen(contenders, wishes.only), disks, { ...wishes, runs: Math.min(5, wishes.runs), say }),
  );
  const goals: Goal[] = [];
  const many = row(rows, 'core, 1000000 queued');
  const few = row(rows, 'core, 100 queued');
  if (many) {
    const each = many.summary.residentBytesPerQueuedJob!.median;
    goals.push(atMost('native memory of a queued job, bytes', each, 512));
  }
  if (many && few)
    goals.push(
      atLeast('jobs/s with 10^6 queued, in parts of 10^2 queued', ratio(many, [few], 'jobsPerSecond', 'largest'), 0.9),
    );
  return {
    rows,
    goals,
    columns: [...JOB_COLUMNS, 'residentBytesPerQueuedJob'],
    notes: [`jobs of 4 KiB; ${jobs} are timed`],
  };
}

interface MindTold {
  readonly shape: string;
  readonly nanosecondsPerSubJob: number;
}

async function mind({ wishes, say, example }: Setting): Promise<Result> {
  const program = await example('mind_only');
  const samples = new Map<string, Sample[]>();
  for (let round = 0; round < wishes.runs; round++) {
    const { code, stdout, stderr } = await run(program, [], { timeoutMs: 300_000 });
    if (code !== 0) throw new Error(`${program}: exit ${code}: ${stderr}`);
    for (const line of stdout.trim().split('\n')) {
      const { shape, nanosecondsPerSubJob } = JSON.parse(line) as MindTold;
      samples.set(shape, [...(samples.get(shape) ?? []), { nanosecondsPerSubJob }]);
    }
    say(`run ${round + 1}/${wishes.runs}: ${stdout.trim().replaceAll('\n', ' ')}`);
  }
  const rows = [...samples].map(
    ([name, own]): Row => ({ name, role: 'variant', detail: '', samples: own, summary: summarizeAll(own) }),
  );
  const goals = rows.map(({ name, summary }) =>
    atMost(`${name}: nanoseconds for a sub-job`, summary.nanosecondsPerSubJob!.median, 1000),
  );
  return { rows, goals, columns: ['nanosecondsPerSubJob'], notes: ['the scheduler alone, with hands that do nothing'] };
}

/** All of them. */
export const CASES: readonly Case[] = [
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
  { name: 'jobs-4k', about: '4 KiB at random places, beside fs.promises', run: small },
  { name: 'core-4k', about: 'the same without JavaScript, on each engine', run: coreOnly },
  { name: 'queued-million', about: 'what a queued job costs, from 10^2 to 10^6 of them', run: queued },
  { name: 'mind-only', about: 'the cost of the scheduler alone', run: mind },
  ...TUNING,
];
