// What a case is, and what several of them share: devices for as long as it lasts, contenders by name, goals. It knows no
// case.
import { Workshop } from '../test/support/workshop.js';
import type { Wishes } from './arguments.js';
import type { Subject } from './contenders.js';
import { Disks, needRoom } from './disks.js';
import { type Row, summarizeRuns } from './rounds.js';

/** What the bench was started with. */
export interface Setting {
  readonly wishes: Wishes;
  readonly start: Subject;
  /** Builds an example of the core crate, if it is not; its path. */
  readonly example: (name: string) => Promise<string>;
  say(line: string): void;
}

/** A figure that is to be reached. */
export interface Goal {
  readonly text: string;
  readonly wanted: number;
  readonly reached: number;
  readonly met: boolean;
}

/** What a case came to. */
export interface Result {
  readonly rows: readonly Row[];
  readonly goals: readonly Goal[];
  /** Figures of a row that people look at, in this order. */
  readonly columns: readonly string[];
  /** What the reader must know: sizes, what was missing. */
  readonly notes: readonly string[];
}

/** One thing to measure. */
export interface Case {
  readonly name: string;
  readonly about: string;
  /** Not measured unless it is named. */
  readonly onRequest?: boolean;
  run(setting: Setting): Promise<Result>;
}

/** What people look at where whole devices are copied. */
export const COPY_COLUMNS: readonly string[] = [
  'bytesPerSecond',
  'cpuSecondsPerGib',
  'machineCpuSecondsPerGib',
  'residentBytes',
  'pageCacheGrowthBytes',
  'submissionsPerGib',
  'sourceReads',
  'loopDelayP99Ms',
  'startUpSeconds',
];

/** What people look at where many small jobs are done. */
export const JOB_COLUMNS: readonly string[] = [
  'jobsPerSecond',
  'cpuMicrosecondsPerJob',
  'loopDelayP99Ms',
  'jobsPerSubmission',
  'residentBytes',
];

export function atLeast(text: string, reached: number, wanted: number): Goal {
  return { text, wanted, reached, met: reached >= wanted };
}

export function atMost(text: string, reached: number, wanted: number): Goal {
  return { text, wanted, reached, met: reached <= wanted };
}

/** The devices of a case, for as long as it lasts. */
export async function withDisks<T>(
  bytes: number,
  destinations: number,
  body: (disks: Disks) => Promise<T>,
): Promise<T> {
  await needRoom(bytes * (1 + destinations));
  const workshop = new Workshop({ roomBytes: bytes * (1 + destinations) });
  try {
    return await body(await Disks.make(workshop, { bytes, destinations }));
  } finally {
    await workshop.dispose();
  }
}

export function chosen<T extends { readonly name: string }>(all: readonly T[], only: readonly string[]): readonly T[] {
  if (only.length === 0) return all;
  // Some names have a comma of their own.
  const asked = `,${only.join(',')},`;
  const found = all.filter(({ name }) => asked.includes(`,${name},`));
  if (found.length > 0) return found;
  throw new Error(`--only names none of ${all.map(({ name }) => name).join(', ')}`);
}

export function row(rows: readonly Row[], name: string): Row | undefined {
  return rows.find((candidate) => candidate.name === name);
}

/** Larger is faster, for every kind of case. */
export function withRates(rows: readonly Row[]): Row[] {
  return rows.map((row) => {
    const samples = row.samples.map((sample) => ({ ...sample, bytesPerSecond: sample.bytes! / sample.seconds! }));
    return { ...row, samples, summary: summarizeRuns(samples) };
  });
}
