// kcopyd and its peers as contenders: how each is run, and which figures its run gives. It decides no case and no goal.
import { run } from '../test/support/command.js';
import { Workshop } from '../test/support/workshop.js';
import { Disks } from './disks.js';
import { machineBusySeconds } from './machine.js';
import { median } from './numbers.js';
import { type Peer, version } from './peers.js';
import type { Contender, Role, Sample } from './rounds.js';
import type { ClientWishes, SmallWay, Task, Told } from './task.js';
import { timed } from './timed.js';

const LONG_MS = 900_000;
const MIB = 1 << 20;
const GIB = 2 ** 30;
const START_UPS = 5;

/** Starts the measured process; what it told. */
export type Subject = (
  task: Task,
  env?: Readonly<Record<string, string>>,
) => Promise<Told & { readonly machineCpuSeconds: number }>;

/** The measured process is this script. */
export function subject(script: string): Subject {
  return async (task, more = {}) => {
    const busy = machineBusySeconds();
    const options = { timeoutMs: LONG_MS, env: { ...process.env, ...more } };
    const { code, stdout, stderr } = await run(process.execPath, [script, JSON.stringify(task)], options);
    if (code !== 0) throw new Error(`the measured process failed, exit ${code}: ${stderr}`);
    return { ...(JSON.parse(stdout) as Told), machineCpuSeconds: machineBusySeconds() - busy };
  };
}

/** How kcopyd is run where it is not run as everybody would. */
export interface Special {
  readonly client?: ClientWishes;
  /** How often each device is copied in one process. */
  readonly times?: number;
  /** Of the measured process. */
  readonly env?: Readonly<Record<string, string>>;
}

/** kcopyd copies the whole device, in a process of its own. */
export function kcopydCopies(
  start: Subject,
  name: string,
  role: Role,
  { client = {}, times = 1, env }: Special,
): Contender {
  return {
    name,
    role,
    run: async ({ source, destinations, bytes }) => {
      const to = destinations.map(({ path }) => path);
      return copied(await start({ kind: 'copy', source: source.path, destinations: to, bytes, client, times }, env));
    },
  };
}

function copied(told: Told & { machineCpuSeconds: number }): Sample {
  const after = told.residentBytesAfterEach;
  return {
    bytes: told.bytes,
    seconds: told.seconds,
    cpuSecondsPerGib: (told.cpuSeconds / told.bytes) * GIB,
    machineCpuSecondsPerGib: ((told.machineCpuSeconds - told.startUpCpuSeconds) / told.bytes) * GIB,
    residentBytes: told.residentBytes,
    residentGrowthBytes: (after.at(-1) ?? 0) - (after[0] ?? 0),
    startUpSeconds: told.startUpSeconds,
    startUpCpuSeconds: told.startUpCpuSeconds,
    submissionsPerGib: ((told.submissions ?? 0) / told.bytes) * GIB,
    loopDelayP99Ms: told.loopDelayP99Ms,
  };
}

/** A peer copies the whole device. What its start alone takes, found by letting it copy 1 MiB, is not counted. */
export async function peerCopies(peer: Peer, destinations: number): Promise<Contender> {
  const startUp = await startUpOf(peer, destinations);
  return {
    name: peer.name,
    role: peer.isCeiling ? 'ceiling' : 'peer',
    ...(peer.isCeiling && { isNoCopy: true }),
    detail: `${await version(peer)}${peer.isBuffered ? ', through the page cache' : ''}`,
    run: async ({ source, destinations, bytes }) => {
      const to = destinations.map(({ path }) => path);
      const taken = await timed(peer.script(source.path, to, bytes));
      const seconds = peer.seconds?.(taken.printed) ?? taken.seconds - startUp.seconds;
      const perGib = (cpuSeconds: number): number => (Math.max(0, cpuSeconds - startUp.cpuSeconds) / bytes) * GIB;
      return {
        bytes,
        seconds,
        cpuSecondsPerGib: perGib(taken.cpuSeconds),
        machineCpuSecondsPerGib: perGib(taken.machineCpuSeconds),
        ...(taken.residentBytes !== undefined && { residentBytes: taken.residentBytes }),
        startUpSeconds: startUp.seconds,
        startUpCpuSeconds: startUp.cpuSeconds,
      };
    },
  };
}

async function startUpOf(peer: Peer, destinations: number): Promise<{ seconds: number; cpuSeconds: number }> {
  const workshop = new Workshop();
  try {
    const disks = await Disks.make(workshop, { bytes: MIB, destinations });
    const to = disks.destinations.map(({ path }) => path);
    const runs = [];
    while (runs.length < START_UPS) runs.push(await timed(peer.script(disks.source.path, to, MIB)));
    return {
      seconds: median(runs.map(({ seconds }) => seconds)),
      cpuSeconds: median(runs.map(({ cpuSeconds }) => cpuSeconds)),
    };
  } finally {
    await workshop.dispose();
  }
}

/** A loop over a ring with nothing around it, as many pieces under way and as large as kcopyd's. */
export function bareRing(program: string): Contender {
  return {
    name: 'bare ring',
    role: 'ceiling',
    detail: '8 pieces of 512 KiB under way',
    run: async ({ source, destinations, bytes }) => {
      const args = ['512', '8', ...[source, ...destinations].map(({ path }) => path)];
      const busy = machineBusySeconds();
      const { code, stdout, stderr } = await run(program, args, { timeoutMs: LONG_MS });
      if (code !== 0) throw new Error(`${program} ${args.join(' ')}: exit ${code}: ${stderr}`);
      const { seconds, cpuSeconds } = JSON.parse(stdout) as { seconds: number; cpuSeconds: number };
      return {
        bytes,
        seconds,
        cpuSecondsPerGib: (cpuSeconds / bytes) * GIB,
        machineCpuSecondsPerGib: ((machineBusySeconds() - busy) / bytes) * GIB,
      };
    },
  };
}

/** So many small jobs, so many at once. */
export interface Load extends Omit<Special, 'times'> {
  readonly jobs: number;
  readonly depth: number;
}

/** A page at a time, in a process of its own. */
export function smallJobs(
  start: Subject,
  way: SmallWay,
  role: Role,
  { jobs, depth, client = {}, env }: Load,
): Contender {
  return {
    name: way,
    role,
    detail: `${depth} at once`,
    run: async ({ source, destinations, bytes }) => {
      const to = destinations.map(({ path }) => path);
      const task = { kind: 'small', way, source: source.path, destinations: to, bytes, client, jobs, depth } as const;
      const told = await start(task, env);
      return {
        bytes: told.bytes,
        seconds: told.seconds,
        jobsPerSecond: jobs / told.seconds,
        cpuMicrosecondsPerJob: (told.cpuSeconds / jobs) * 1e6,
        residentBytes: told.residentBytes,
        loopDelayP99Ms: told.loopDelayP99Ms,
        jobsPerSubmission: told.submissions ? jobs / told.submissions : 0,
      };
    },
  };
}

/** What `core_jobs` prints. */
interface CoreTold {
  readonly seconds: number;
  readonly jobsPerSecond: number;
  readonly cpuSeconds: number;
  readonly residentBytesPerQueuedJob: number;
  readonly submissions: number;
}

/** The Rust core alone does the same jobs. */
export function coreJobs(
  program: string,
  name: string,
  role: Role,
  jobs: number,
  depth: number,
  engine = 'auto',
): Contender {
  return {
    name,
    role,
    detail: `${depth} at once`,
    run: async ({ source, destinations }) => {
      const devices = [source, destinations[0]!].map(({ path }) => path);
      const args = [...devices, String(jobs), String(depth), engine];
      const { code, stdout, stderr } = await run(program, args, { timeoutMs: LONG_MS });
      if (code !== 0) throw new Error(`${program} ${args.join(' ')}: exit ${code}: ${stderr}`);
      const told = JSON.parse(stdout) as CoreTold;
      return {
        bytes: jobs * 4096,
        seconds: told.seconds,
        jobsPerSecond: told.jobsPerSecond,
        cpuMicrosecondsPerJob: (told.cpuSeconds / jobs) * 1e6,
        residentBytesPerQueuedJob: told.residentBytesPerQueuedJob,
        jobsPerSubmission: jobs / Math.max(1, told.submissions),
      };
    },
  };
}
