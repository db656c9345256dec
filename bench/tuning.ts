// Variants of kcopyd against each other: what the constants in crates/kcopyd/src/copy/limits.rs and the policy in
// engine/uring/steps.rs were decided by. Peers are no matter here.
import { formatBytes } from '../cli/format.js';
import { type Case, COPY_COLUMNS, chosen, type Result, type Setting, withDisks, withRates } from './case.js';
import { kcopydCopies, type Special, smallJobs } from './contenders.js';
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

async function smallVariants({ wishes, start, say }: Setting): Promise<Result> {
  const { jobs, depth, client } = wishes;
  const contenders = chosen(WAYS, wishes.only).map(({ name, env }) => ({
    ...smallJobs(start, 'submitCopy', 'variant', { jobs, depth, client, ...(env && { env }) }),
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
  { name: 'tune-chains-4k', about: 'linked or fanned out, 4 KiB jobs', onRequest: true, run: smallVariants },
];
