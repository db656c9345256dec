// Many small jobs at random places, a snapshot's copy-out: beside fs.promises, the core without JavaScript, and a bare ring. It
// refuses to know how a contender is run and how a result is printed.
import { formatBytes } from '../cli/format.js';
import {
  atLeast,
  atMost,
  type Case,
  chosen,
  type Goal,
  JOB_COLUMNS,
  type Result,
  row,
  type Setting,
  withDisks,
} from './case.js';
import { bareRing, coreJobs, smallJobs } from './contenders.js';
import { type Contender, type Row, ratio, rounds } from './rounds.js';

const KIB = 1 << 10;
const PAGE_BYTES = 4 * KIB;
const DEVICE_BYTES_MAX = 2 ** 30;
const FS_JOBS = 1 << 16;
/** What libuv takes. */
const THREADS_MAX = 1024;
/** Of what a loop without jobs, pool and errors does, so much at least is to be left. */
const BARE_RING_PART = 0.5;

interface Size {
  readonly name: string;
  readonly jobBytes: number;
}

const SIZES: readonly Size[] = [4, 16, 64].map((kib) => ({ name: `${kib}k`, jobBytes: kib * KIB }));

async function small(setting: Setting, jobBytes: number): Promise<Result> {
  const { wishes, start, say, example } = setting;
  const { jobs, depth } = wishes;
  const [core, ring] = [await example('core_jobs'), await example('bare_ring')];
  const load = { jobs, depth, jobBytes, client: wishes.client };
  // Their rate does not depend on how many they do; but a place that they copy twice is in the page cache the second time.
  const fewer = { ...load, jobs: Math.min(jobs / 2, FS_JOBS, DEVICE_BYTES_MAX / jobBytes), client: {} };
  const threads = { ...fewer, env: { UV_THREADPOOL_SIZE: String(Math.min(depth, THREADS_MAX)) } };
  const all: Contender[] = [
    smallJobs(start, 'submitCopy', 'kcopyd', load),
    smallJobs(start, 'copy', 'kcopyd', load),
    smallJobs(start, 'fs.promises', 'peer', fewer),
    smallJobs(start, 'fs.promises direct', 'peer', fewer),
    {
      ...smallJobs(start, 'fs.promises direct', 'peer', threads),
      name: 'fs.promises direct, a thread for each',
      detail: `${depth} at once, UV_THREADPOOL_SIZE=${threads.env.UV_THREADPOOL_SIZE}`,
    },
    coreJobs(core, 'core alone', 'variant', load),
    bareRing(ring, { pieceBytes: jobBytes, depth, order: 'scattered', pieces: jobs }),
  ];
  const contenders = chosen(all, wishes.only);
  const device = deviceBytes(fewer.jobs, jobBytes);
  const rows = await withDisks(device, 1, (disks) => rounds(contenders, disks, { ...wishes, say }));
  return {
    rows,
    goals: smallGoals(rows),
    columns: JOB_COLUMNS,
    notes: [
      `${jobs} jobs of ${formatBytes(jobBytes)} at random places of ${formatBytes(device)}, ${depth} under way at once; the flush at the end counts; fs.promises: ${fewer.jobs} jobs`,
    ],
  };
}

/** Half the jobs, the peers' share, copy every place at least once: so that the comparison means something. */
function deviceBytes(jobs: number, jobBytes: number): number {
  return Math.min(DEVICE_BYTES_MAX, jobs * jobBytes);
}

function smallGoals(rows: readonly Row[]): Goal[] {
  const peers = rows.filter(({ role }) => role === 'peer');
  const core = row(rows, 'core alone');
  const bare = row(rows, 'bare ring');
  const goals: Goal[] = [];
  for (const ours of rows.filter(({ role }) => role === 'kcopyd')) {
    const of = (others: readonly Row[]): number => ratio(ours, others, 'jobsPerSecond', 'largest');
    if (peers.length > 0)
      goals.push(atLeast(`${ours.name}: jobs/s, in parts of the best of fs.promises`, of(peers), 10));
    if (bare) goals.push(atLeast(`${ours.name}: jobs/s, in parts of a bare ring`, of([bare]), BARE_RING_PART));
    if (core) goals.push(atLeast(`${ours.name}: jobs/s, in parts of the core alone`, of([core]), 0.5));
    goals.push(atMost(`${ours.name}: event loop, delay of 99 in 100, ms`, ours.summary.loopDelayP99Ms!.median, 5));
  }
  return goals;
}

async function coreOnly({ wishes, say, example }: Setting): Promise<Result> {
  const core = await example('core_jobs');
  const contenders = chosen(
    ['io_uring', 'threads'].map((engine) =>
      coreJobs(core, `core, ${engine}`, 'variant', { ...wishes, jobBytes: PAGE_BYTES, client: { engine } }),
    ),
    wishes.only,
  );
  const rows = await withDisks(deviceBytes(wishes.jobs / 2, PAGE_BYTES), 1, (disks) =>
    rounds(contenders, disks, { ...wishes, say }),
  );
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
  const jobBytes = PAGE_BYTES;
  const named = (contender: Contender, name: string): Contender => ({ ...contender, name });
  const contenders = QUEUED.flatMap((depth) => [
    named(coreJobs(core, '', 'variant', { ...wishes, jobs, depth, jobBytes }), `core, ${depth} queued`),
    named(
      smallJobs(start, 'submitCopy', 'kcopyd', { ...wishes, jobs: Math.max(jobs, depth), depth, jobBytes }),
      `submitCopy, ${depth} queued`,
    ),
  ]);
  const rows = await withDisks(deviceBytes(jobs / 2, jobBytes), 1, (disks) =>
    rounds(chosen(contenders, wishes.only), disks, { ...wishes, runs: Math.min(5, wishes.runs), say }),
  );
  const goals: Goal[] = [];
  const many = row(rows, 'core, 1000000 queued');
  if (many) {
    const each = many.summary.residentBytesPerQueuedJob!.median;
    goals.push(atMost('native memory of a queued job, bytes', each, 512));
  }
  for (const way of ['core', 'submitCopy']) {
    const [many, few] = [row(rows, `${way}, 1000000 queued`), row(rows, `${way}, 100 queued`)];
    if (!many || !few) continue;
    const part = ratio(many, [few], 'jobsPerSecond', 'largest');
    goals.push(atLeast(`${way}: jobs/s with 10^6 queued, in parts of 10^2 queued`, part, 0.9));
  }
  return {
    rows,
    goals,
    columns: [...JOB_COLUMNS, 'residentBytesPerQueuedJob'],
    notes: [`jobs of 4 KiB; ${jobs} are timed`],
  };
}

/** In the order in which people want to know. */
export const SMALL_JOBS: readonly Case[] = [
  ...SIZES.map(({ name, jobBytes }) => ({
    name: `jobs-${name}`,
    about: `${formatBytes(jobBytes)} at random places, beside fs.promises`,
    run: (setting: Setting) => small(setting, jobBytes),
  })),
  { name: 'core-4k', about: 'the same without JavaScript, on each engine', run: coreOnly },
  { name: 'queued-million', about: 'what a queued job costs, from 10^2 to 10^6 of them', run: queued },
];
