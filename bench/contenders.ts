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
const KIB = 1 << 10;
const MIB = 1 << 20;
const GIB = 2 ** 30;
const START_UPS = 5;

/** What the measured process finds around it. */
export interface Around {
  /** More of an environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** A program that becomes the process, and its arguments. */
  readonly by?: readonly string[];
}

/** Starts the measured process; what it told. */
export type Subject = (task: Task, around?: Around) => Promise<Told & { readonly machineCpuSeconds: number }>;

/** The measured process is this script. */
export function subject(script: string): Subject {
  return async (task, { env = {}, by = [] } = {}) => {
    const busy = machineBusySeconds();
    const options = { timeoutMs: LONG_MS, env: { ...process.env, ...env } };
    const [program = '', ...args] = [...by, process.execPath, script, JSON.stringify(task)];
    const { code, stdout, stderr } = await run(program, args, options);
    if (code !== 0) throw new Error(`the measured process failed, exit ${code}: ${stderr}`);
    return { ...(JSON.parse(stdout) as Told), machineCpuSeconds: machineBusySeconds() - busy };
  };
}

/** How kcopyd is run where it is not run as everybody would. */
export interface Special extends Around {
  readonly client?: ClientWishes;
  /** How often each device is copied in one process. */
  readonly times?: number;
  /** Whether the destinations are files that are not there. */
  readonly create?: boolean;
}

/** kcopyd copies the whole device or file, in a process of its own. */
export function kcopydCopies(
  start: Subject,
  name: string,
  role: Role,
  { client = {}, times = 1, create = false, ...around }: Special,
): Contender {
  return {
    name,
    role,
    run: async ({ source, destinations, bytes }) => {
      const to = destinations.map(({ path }) => path);
      const task = { kind: 'copy', source: source.path, destinations: to, bytes, client, times, create } as const;
      return copied(await start(task, around));
    },
  };
}

/** The figures of a process that told. */
export function copied(told: Told & { machineCpuSeconds: number }): Sample {
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

/** How a bare ring copies. */
export interface BareRing {
  readonly pieceBytes: number;
  readonly depth: number;
  readonly order: 'ascending' | 'scattered';
  /** Default: as many as the source has. */
  readonly pieces?: number;
  /** Whether fewer than the source has are enough: then it is no copy. */
  readonly isPart?: boolean;
  /** How the ring is made. Default: `deferred`. */
  readonly setup?: 'deferred' | 'plain' | 'polled';
}

/** As kcopyd copies whole devices. */
export const AS_WHOLE_DEVICES: BareRing = { pieceBytes: 512 * KIB, depth: 24, order: 'ascending' };

/** A loop over a ring with nothing around it, as many pieces under way and as large as kcopyd's. */
export function bareRing(program: string, how: BareRing, name = 'bare ring'): Contender {
  const { pieceBytes, depth, order, pieces, isPart = false, setup = 'deferred' } = how;
  const size = pieceBytes / KIB;
  return {
    name,
    role: 'ceiling',
    isNoCopy: isPart,
    detail: `${depth} pieces of ${size} KiB under way`,
    run: async ({ source, destinations, bytes }) => {
      const devices = [source, ...destinations].map(({ path }) => path);
      const wanted = pieces ?? bytes / pieceBytes;
      if (wanted * pieceBytes < bytes && !isPart) throw new Error(`${name}: it would not copy all of the device`);
      const args = [`${size}`, `${depth}`, order, ...devices, '--pieces', `${wanted}`, '--setup', setup];
      const busy = machineBusySeconds();
      const { code, stdout, stderr } = await run(program, args, { timeoutMs: LONG_MS });
      if (code !== 0) throw new Error(`${program} ${args.join(' ')}: exit ${code}: ${stderr}`);
      const { seconds, cpuSeconds } = JSON.parse(stdout) as { seconds: number; cpuSeconds: number };
      const copied = wanted * pieceBytes;
      return {
        bytes: copied,
        seconds,
        jobsPerSecond: wanted / seconds,
        cpuMicrosecondsPerJob: (cpuSeconds / wanted) * 1e6,
        cpuSecondsPerGib: (cpuSeconds / copied) * GIB,
        machineCpuSecondsPerGib: ((machineBusySeconds() - busy) / copied) * GIB,
      };
    },
  };
}

/** So many small jobs, so many at once. */
export interface Load extends Pick<Special, 'client' | 'env'> {
  readonly jobs: number;
  readonly depth: number;
  readonly jobBytes: number;
}

/** A piece at a time, in a process of its own. */
export function smallJobs(
  start: Subject,
  way: SmallWay,
  role: Role,
  { jobs, depth, jobBytes, client = {}, env }: Load,
): Contender {
  return {
    name: way,
    role,
    detail: `${depth} at once`,
    run: async ({ source, destinations, bytes }) => {
      const to = destinations.map(({ path }) => path);
      const devices = { source: source.path, destinations: to, bytes };
      const told = await start({ kind: 'small', way, ...devices, client, jobs, depth, jobBytes }, env && { env });
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
  { jobs, depth, jobBytes, client: { engine = 'auto' } = {} }: Load,
): Contender {
  return {
    name,
    role,
    detail: `${depth} at once`,
    run: async ({ source, destinations }) => {
      const devices = [source, destinations[0]!].map(({ path }) => path);
      const args = [...devices, String(jobBytes / KIB), String(jobs), String(depth), engine];
      const { code, stdout, stderr } = await run(program, args, { timeoutMs: LONG_MS });
      if (code !== 0) throw new Error(`${program} ${args.join(' ')}: exit ${code}: ${stderr}`);
      const told = JSON.parse(stdout) as CoreTold;
      return {
        bytes: jobs * jobBytes,
        seconds: told.seconds,
        jobsPerSecond: told.jobsPerSecond,
        cpuMicrosecondsPerJob: (told.cpuSeconds / jobs) * 1e6,
        residentBytesPerQueuedJob: told.residentBytesPerQueuedJob,
        jobsPerSubmission: jobs / Math.max(1, told.submissions),
      };
    },
  };
}
