// Variants of kcopyd against each other: what the constants in crates/kcopyd/src/copy/limits.rs, the policy in
// engine/uring/steps.rs and the way the ring is made were decided by. Peers are no matter here.
import { formatBytes } from '../cli/format.js';
import { type Case, COPY_COLUMNS, chosen, type Result, type Setting, withDisks, withRates } from './case.js';
import { AS_WHOLE_DEVICES, bareRing, kcopydCopies, type Special, smallJobs } from './contenders.js';
import { type Contender, rounds } from './rounds.js';

interface Variant extends Special {
  readonly name: string;
}

const SECTORS_PER_KIB = 2;
const PAGES_PER_MIB = 256;
/** A pool that has room for whatever else is bounded. */
const AMPLE_PAGES = 64 * PAGES_PER_MIB;

const SIZES: readonly Variant[] = [64, 128, 256, 512, 1024].map((kib) => ({
  name: `${kib} KiB`,
  client: { subJobSectors: kib * SECTORS_PER_KIB, pages: AMPLE_PAGES },
}));

const POOLS: readonly Variant[] = [0.5, 1, 2, 4, 16, 64].map((mib) => ({
  name: `pool of ${mib} MiB`,
  client: { pages: mib * PAGES_PER_MIB },
}));

const WAYS: readonly Variant[] = [
  { name: 'as measured' },
  ...['linked', 'fan-out'].map((way) => ({ name: way, env: { KCOPYD_CHAINS: way } })),
];

/** How a ring may be made, and with what; the environment is read in engine/select.rs. */
const RINGS: readonly Variant[] = [
  { name: 'as it is' },
  { name: 'pool not registered', env: { KCOPYD_BUFFERS: 'plain' } },
  { name: 'without DEFER_TASKRUN', env: { KCOPYD_RING: 'cooperative' } },
  { name: 'without setup flags', env: { KCOPYD_RING: 'plain' } },
];

/** PR_SET_THP_DISABLE, which a process keeps when it becomes another program. */
const WITHOUT_HUGE_PAGES =
  'import ctypes, os, sys; ctypes.CDLL(None, use_errno=True).prctl(41, 1, 0, 0, 0) == 0 or sys.exit("prctl"); os.execvp(sys.argv[1], sys.argv[1:])';

const MEMORIES: readonly Variant[] = [
  { name: 'huge pages' },
  { name: 'small pages', by: ['python3', '-c', WITHOUT_HUGE_PAGES] },
];

const DEPTHS: readonly number[] = [1, 2, 4, 8, 16, 24, 32];
const SETUPS = ['deferred', 'plain', 'polled'] as const;
const PAGE_BYTES = 4096;

/** A bare ring, with more and more under way. */
async function depths(setting: Setting): Promise<Result> {
  const { wishes, say, example } = setting;
  const ring = await example('bare_ring');
  const all = DEPTHS.map((depth) => bareRing(ring, { ...AS_WHOLE_DEVICES, depth }, `${depth} pieces`));
  const run = (disks: Parameters<typeof rounds>[1]): ReturnType<typeof rounds> =>
    rounds(chosen(all, wishes.only), disks, { ...wishes, say });
  const rows = withRates(await withDisks(wishes.size, wishes.destinations, run));
  const notes = [`a bare ring, ${formatBytes(wishes.size)}, destinations: ${wishes.destinations}`];
  return { rows, goals: [], columns: COPY_COLUMNS, notes };
}

/** A bare ring, made in different ways. */
async function setups(setting: Setting): Promise<Result> {
  const { wishes, say, example } = setting;
  const { jobs, depth } = wishes;
  const ring = await example('bare_ring');
  const how = { pieceBytes: PAGE_BYTES, depth, order: 'scattered', pieces: jobs } as const;
  const all = SETUPS.map((setup) => bareRing(ring, { ...how, setup }, setup));
  const rows = await withDisks(Math.min(2 ** 28, jobs * PAGE_BYTES), 1, (disks) =>
    rounds(chosen(all, wishes.only), disks, { ...wishes, say }),
  );
  const columns = ['jobsPerSecond', 'cpuMicrosecondsPerJob', 'machineCpuSecondsPerGib'];
  return { rows, goals: [], columns, notes: [`a bare ring, ${jobs} pieces of 4 KiB, ${depth} at once`] };
}

async function variants({ wishes, start, say }: Setting, all: readonly Variant[]): Promise<Result> {
  const contenders: Contender[] = chosen(all, wishes.only).map(({ name, client, ...special }) =>
    kcopydCopies(start, name, 'variant', { ...special, client: { ...wishes.client, ...client } }),
  );
  const run = (disks: Parameters<typeof rounds>[1]): ReturnType<typeof rounds> =>
    rounds(contenders, disks, { ...wishes, say });
  const rows = withRates(await withDisks(wishes.size, wishes.destinations, run));
  return {
    rows,
    goals: [],
    columns: COPY_COLUMNS,
    notes: [`${formatBytes(wishes.size)}, destinations: ${wishes.destinations}`],
  };
}

async function smallVariants({ wishes, start, say }: Setting, all: readonly Variant[]): Promise<Result> {
  const { jobs, depth, client } = wishes;
  const contenders = chosen(all, wishes.only).map(({ name, env }) => ({
    ...smallJobs(start, 'submitCopy', 'variant', { jobs, depth, client, jobBytes: PAGE_BYTES, ...(env && { env }) }),
    name,
  }));
  const rows = await withDisks(Math.min(2 ** 28, jobs * 4096), 1, (disks) =>
    rounds(contenders, disks, { ...wishes, say }),
  );
  return {
    rows,
    goals: [],
    columns: ['jobsPerSecond', 'cpuMicrosecondsPerJob', 'jobsPerSubmission'],
    notes: [`${depth} at once`],
  };
}

/** Run only when they are named. */
export const TUNING: readonly Case[] = [
  { name: 'tune-size', about: 'the size of a sub-job', onRequest: true, run: (setting) => variants(setting, SIZES) },
  { name: 'tune-pool', about: 'the size of the pool', onRequest: true, run: (setting) => variants(setting, POOLS) },
  {
    name: 'tune-chains',
    about: 'linked or fanned out, large jobs',
    onRequest: true,
    run: (setting) => variants(setting, WAYS),
  },
  {
    name: 'tune-chains-4k',
    about: 'linked or fanned out, 4 KiB jobs',
    onRequest: true,
    run: (setting) => smallVariants(setting, WAYS),
  },
  { name: 'tune-ring', about: 'ways to make the ring', onRequest: true, run: (setting) => variants(setting, RINGS) },
  {
    name: 'tune-ring-4k',
    about: 'ways to make the ring, 4 KiB jobs',
    onRequest: true,
    run: (setting) => smallVariants(setting, RINGS),
  },
  {
    name: 'tune-memory',
    about: 'a pool of huge pages or of small ones',
    onRequest: true,
    run: (setting) => variants(setting, MEMORIES),
  },
  { name: 'tune-depth', about: 'pieces under way at once, of a bare ring', onRequest: true, run: depths },
  {
    name: 'tune-polling',
    about: "a bare ring with and without a thread of the kernel's",
    onRequest: true,
    run: setups,
  },
];
