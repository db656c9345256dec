// Runs contenders against each other: in rounds, so that whatever else the machine does meets all of them alike, each round
// beginning with another one. Before each run the destinations are spoilt, after it they are compared.
import { calm, pageCacheBytes } from './machine.js';
import { median, type Summary, summarizeAll } from './numbers.js';

/** Figures of one run, by name. */
export type Sample = Readonly<Record<string, number>>;

/** What a contender is in a comparison. */
export type Role = 'kcopyd' | 'variant' | 'peer' | 'ceiling';

/** What is copied from and to. */
export interface Ground {
  /** Makes it as it is to be before a run, such that nothing that the run leaves out can look right. */
  spoil(): Promise<void>;
  /** Throws unless a run has done what it should have. */
  compare(): Promise<void>;
  /** How many bytes of the source were read from it so far, where that is known. */
  sourceBytesRead?(): number;
}

/** What most contenders need to know of it. */
export interface Places extends Ground {
  readonly source: { readonly path: string };
  readonly destinations: readonly { readonly path: string }[];
  /** Of each of them. */
  readonly bytes: number;
}

/** One way of doing what a case is about. */
export interface Contender<G extends Ground = Places> {
  readonly name: string;
  readonly role: Role;
  /** Version, engine: whatever tells it from others of its name. */
  readonly detail?: string;
  /** Reads and writes as much as a copy does, but writes whatever it likes. */
  readonly isNoCopy?: boolean;
  /** Copies, and says what it took. */
  run(ground: G): Promise<Sample>;
}

/** A contender's runs. */
export interface Row {
  readonly name: string;
  readonly role: Role;
  readonly detail: string;
  readonly samples: readonly Sample[];
  readonly summary: Readonly<Record<string, Summary>>;
}

export interface RoundOptions {
  readonly runs: number;
  readonly calmMs: number;
  /** Rounds that do not count. Default 1. */
  readonly warmUps?: number;
  say(line: string): void;
}

/** A run is disturbed if others keep more than this of a processor busy right before it or right after. */
const DISTURBED_SHARE = 0.3;
const ATTEMPTS = 4;

/** Runs every contender in every round. */
export async function rounds<G extends Ground>(
  contenders: readonly Contender<G>[],
  ground: G,
  options: RoundOptions,
): Promise<Row[]> {
  const { runs, calmMs, warmUps = 1, say } = options;
  const samples = new Map<Contender<G>, Sample[]>(contenders.map((contender) => [contender, []]));
  for (let round = -warmUps; round < runs; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const contender = contenders[(turn + Math.max(0, round)) % contenders.length]!;
      const sample = await once(contender, ground, calmMs);
      if (round >= 0) samples.get(contender)!.push(sample);
      say(`${round < 0 ? 'warm-up' : `run ${round + 1}/${runs}`}: ${contender.name}: ${inWords(sample)}`);
    }
  }
  return contenders.map((contender) => {
    const own = samples.get(contender)!;
    return {
      name: contender.name,
      role: contender.role,
      detail: contender.detail ?? '',
      samples: own,
      summary: summarizeRuns(own),
    };
  });
}

/** A run that others have disturbed is repeated, but not for ever: the last one counts, and says so. */
async function once<G extends Ground>(contender: Contender<G>, ground: G, calmMs: number): Promise<Sample> {
  for (let attempt = 1; ; attempt++) {
    const sample = await undisturbed(contender, ground, calmMs);
    if (sample.otherwiseBusy! <= DISTURBED_SHARE || attempt === ATTEMPTS || calmMs === 0) return sample;
  }
}

async function undisturbed<G extends Ground>(contender: Contender<G>, ground: G, calmMs: number): Promise<Sample> {
  await ground.spoil();
  const before = await calm(calmMs);
  const cache = pageCacheBytes();
  const read = ground.sourceBytesRead?.();
  const sample = await contender.run(ground);
  const sourceBytesRead = (ground.sourceBytesRead?.() ?? 0) - (read ?? 0);
  const pageCacheGrowthBytes = pageCacheBytes() - cache;
  const after = await calm(0);
  if (!contender.isNoCopy) await ground.compare();
  return {
    ...sample,
    pageCacheGrowthBytes,
    otherwiseBusy: Math.max(before, after),
    ...(read !== undefined && sample.bytes! > 0 && { sourceReads: sourceBytesRead / sample.bytes! }),
  };
}

function inWords(sample: Sample): string {
  const { seconds, bytes, jobsPerSecond, otherwiseBusy } = sample;
  const rate = bytes !== undefined && seconds !== undefined ? `${(bytes / seconds / 1e6).toFixed(0)} MB/s` : '';
  const jobs = jobsPerSecond === undefined ? '' : `, ${Math.round(jobsPerSecond)} jobs/s`;
  const noise = (otherwiseBusy ?? 0) > DISTURBED_SHARE ? ` (others busy: ${(otherwiseBusy! * 100).toFixed(0)} %)` : '';
  return `${rate}${jobs}${noise}`;
}

/** So many undisturbed runs are enough to leave the disturbed ones out. */
const ENOUGH = 3;

function isUndisturbed({ otherwiseBusy }: Sample): boolean {
  return (otherwiseBusy ?? 0) <= DISTURBED_SHARE;
}

/** Summarizes the undisturbed runs, or all of them if those are too few. */
export function summarizeRuns(samples: readonly Sample[]): Record<string, Summary> {
  const undisturbed = samples.filter(isUndisturbed);
  return summarizeAll(undisturbed.length >= ENOUGH ? undisturbed : samples);
}

/**
 * How one contender's figure compares with the best of others, run by run: the median of the quotients. Above 1, `ours` is
 * larger. Runs of the same round met the same machine, so their quotient has less noise than a quotient of medians; but
 * where in too few rounds all of them were left alone, it is that: one that others held up is no measure of anybody.
 */
export function ratio(ours: Row, others: readonly Row[], figure: string, best: 'largest' | 'smallest'): number {
  const quotient = (own: number, theirs: readonly number[]): number =>
    own / (best === 'largest' ? Math.max(...theirs) : Math.min(...theirs));
  const quotients: number[] = [];
  for (const [round, sample] of ours.samples.entries()) {
    const theirs = others.map((other) => other.samples[round]!);
    if (![sample, ...theirs].every(isUndisturbed)) continue;
    quotients.push(
      quotient(
        sample[figure]!,
        theirs.map((other) => other[figure]!),
      ),
    );
  }
  if (quotients.length >= Math.min(ENOUGH, ours.samples.length)) return median(quotients);
  const middle = (row: Row): number => summarizeRuns(row.samples)[figure]!.median;
  return quotient(middle(ours), others.map(middle));
}

/** How many runs others have disturbed. */
export function disturbed(rows: readonly Row[]): { readonly disturbed: number; readonly runs: number } {
  const samples = rows.flatMap((row) => row.samples);
  return { disturbed: samples.filter((sample) => !isUndisturbed(sample)).length, runs: samples.length };
}
