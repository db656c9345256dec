// Reads the benchmark's command line. It checks everything before anything is made, and knows no case but by name.
import { existsSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError } from 'commander';

/** What the caller wants. */
export interface Wishes {
  /** Names of cases; empty: all of them. */
  readonly cases: readonly string[];
  readonly list: boolean;
  /** Runs of each contender that count, after one that does not. */
  readonly runs: number;
  /** Bytes of each device of the copy cases. */
  readonly size: number;
  /** Destinations, where a case does not say itself. */
  readonly destinations: number;
  /** Small jobs of each run; a power of two. */
  readonly jobs: number;
  /** Small jobs that are under way at once. */
  readonly depth: number;
  /** Contenders to run; empty: all of them. */
  readonly only: readonly string[];
  /** Options of the client, where they are not to be the defaults. */
  readonly client: { readonly pages?: number; readonly subJobSectors?: number; readonly engine?: string };
  /** Whether missing peers may be installed with apt-get. */
  readonly install: boolean;
  /** How long to wait for an idle machine before each run, in milliseconds. */
  readonly calmMs: number;
  /** Where the results go. */
  readonly out: string;
}

/** What the parser says and how it exits; thrown instead of exiting. */
export type Refusal = CommanderError;

const MIB = 1 << 20;
const SIZE_MIN = 16 * MIB;
const UNITS: Readonly<Record<string, number>> = { M: MIB, MIB: MIB, G: 1024 * MIB, GIB: 1024 * MIB };

/** Reads the arguments; `names` are the cases there are. Throws a {@link Refusal} with exit code 0 for `--help`, else 2. */
export function readArguments(argv: readonly string[], names: readonly string[]): Wishes {
  const program = new Command('npm run bench --')
    .description('Measures kcopyd beside its peers, on loop devices in memory that it makes itself and clears away.')
    .argument('[cases...]', `what to measure: ${names.join(', ')}`, (name: string, before: string[] | undefined) => [
      ...(before ?? []),
      caseName(name, names),
    ])
    .option('--list', 'only say which cases and contenders there are', false)
    .option('--runs <number>', 'runs of each contender', integer(1, 1000), 7)
    .option('--size <bytes>', 'size of each device of the copy cases, such as 512M or 2G', size, 2048 * MIB)
    .option('--destinations <number>', 'destinations of the tune- cases', integer(1, 8), 1)
    .option('--jobs <number>', 'small jobs of each run, a power of two', powerOfTwo, 1 << 17)
    .option('--depth <number>', 'small jobs under way at once', integer(1, 1_000_000), 64)
    .option('--only <names>', 'contenders to run, separated by commas', (names: string) => names.split(','), [])
    .option('--pages <number>', 'pages of the client', integer(1, 1 << 20))
    .option('--sub-job-sectors <number>', 'sub-job size of the client', integer(8, 2048))
    .option('--engine <name>', 'engine of the client: auto, io_uring or threads', engine)
    .option('--no-install', 'do not install missing peers')
    .option('--calm <ms>', 'how long to wait for an idle machine before each run', integer(0, 600_000), 5_000)
    .option('--out <directory>', 'where the results go', 'docs/benchmarks')
    .exitOverride((end) => {
      throw end.exitCode === 0 ? end : new CommanderError(2, end.code, end.message);
    });
  program.parse([...argv], { from: 'user' });
  const { pages, subJobSectors, engine: named, calm, ...options } = program.opts();
  const client = {
    ...(pages !== undefined && { pages }),
    ...(subJobSectors !== undefined && { subJobSectors }),
    ...(named !== undefined && { engine: named }),
  };
  return { cases: program.processedArgs[0] ?? [], client, calmMs: calm, ...options } as Wishes;
}

function caseName(name: string, names: readonly string[]): string {
  if (names.includes(name)) return name;
  if (name.startsWith('/') || existsSync(name)) {
    throw new InvalidArgumentError(
      `${name} is not touched: the benchmark writes to devices that it made itself, and to no others.`,
    );
  }
  throw new InvalidArgumentError(`There is no case ${name}; there are ${names.join(', ')}.`);
}

function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
  };
}

function powerOfTwo(text: string): number {
  const value = integer(1 << 10, 1 << 24)(text);
  if ((value & (value - 1)) === 0) return value;
  throw new InvalidArgumentError('It must be a power of two, so that every page is copied equally often.');
}

function size(text: string): number {
  const [, digits, unit] = /^(\d+)([a-z]+)$/i.exec(text) ?? [];
  const bytes = Number(digits) * (UNITS[unit?.toUpperCase() ?? ''] ?? Number.NaN);
  if (bytes >= SIZE_MIN && bytes % SIZE_MIN === 0) return bytes;
  throw new InvalidArgumentError('It must be a multiple of 16M, such as 512M or 2G.');
}

function engine(name: string): string {
  if (['auto', 'io_uring', 'threads'].includes(name)) return name;
  throw new InvalidArgumentError('It must be auto, io_uring or threads.');
}
