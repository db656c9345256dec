// What jobs cost where no device is: the scheduler alone, and jobs of no bytes all the way from JavaScript and back. It measures
// no copying.
import { run } from '../test/support/command.js';
import { atMost, type Case, chosen, JOB_COLUMNS, type Result, type Setting, withDisks } from './case.js';
import { coreJobs, smallJobs } from './contenders.js';
import { summarizeAll } from './numbers.js';
import { type Contender, type Row, rounds, type Sample } from './rounds.js';

/** Devices must be there to be named, not to be touched. */
const DEVICE_BYTES = 1 << 24;

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

async function completions({ wishes, start, say, example }: Setting): Promise<Result> {
  const load = { ...wishes, jobBytes: 0 };
  const all: Contender[] = [
    coreJobs(await example('core_jobs'), 'core alone', 'variant', load),
    smallJobs(start, 'submitCopy', 'kcopyd', load),
    smallJobs(start, 'copy', 'kcopyd', load),
  ].map((contender) => ({ ...contender, isNoCopy: true }));
  const rows = await withDisks(DEVICE_BYTES, 1, (disks) => rounds(chosen(all, wishes.only), disks, { ...wishes, say }));
  return {
    rows,
    goals: [],
    columns: JOB_COLUMNS,
    notes: [`${wishes.jobs} jobs of no bytes, ${wishes.depth} under way at once`],
  };
}

/** In the order in which people want to know. */
export const OVERHEADS: readonly Case[] = [
  { name: 'mind-only', about: 'the cost of the scheduler alone', run: mind },
  { name: 'no-device', about: 'the cost of a job that touches no device, from JavaScript and back', run: completions },
];
