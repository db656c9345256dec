// What a copy came to, in words: per destination what it holds and why not more, what of the source could not be read, and how
// fast it went. Pure: an outcome in, lines out.
import type { ClientStats, Failure, Outcome } from '../index.js';
import { errnoText, formatBytes, formatDuration, formatRate, formatSectors, plural, table } from './format.js';

/** A copy that has begun. */
export interface Plan {
  readonly source: string;
  readonly destinations: readonly string[];
  readonly flush: boolean;
  readonly engine: ClientStats['engine'];
}

/** How it ended. */
export interface Ending {
  readonly outcome: Outcome;
  readonly aborted: boolean;
}

const FAILURES_SHOWN = 5;

/** The whole report. */
export function outcomeLines(plan: Plan, ending: Ending): string[] {
  const { outcome } = ending;
  const rows = outcome.destinations.map((destination, index) => [
    plan.destinations[index] ?? String(index),
    formatSectors(destination.sectors),
    verdict(plan, ending, index),
  ]);
  return [
    ...sourceLines(plan, outcome.failures),
    ...table([['destination', 'holds', 'result'], ...rows]),
    speedLine(plan, ending),
  ];
}

/** One destination's result. */
export function verdict(plan: Plan, { outcome, aborted }: Ending, index: number): string {
  if (outcome.destinations[index]?.ok) return plan.flush ? 'complete, flushed' : 'complete, not flushed';
  const own = outcome.failures.filter((failure) => failure.destination === index);
  const [first] = own;
  if (first) {
    const more = own.length > 1 ? `; and ${own.length - 1} more` : '';
    return `incomplete: ${describe(first)}${more}`;
  }
  if (((outcome.writeErr >>> index) & 1) === 1) return 'incomplete: it failed (the list of failures was full)';
  if (aborted) return 'incomplete: aborted';
  if (outcome.readErr !== 0) return 'incomplete: the source could not be read';
  return 'incomplete: the copy stopped after the first error';
}

/** A failure: `write failed at sector 2048 (8 sectors): i/o error (EIO)`. */
export function describe({ op, sector, count, code, errno }: Failure): string {
  // A flush is of the whole destination: its sectors tell nothing.
  const where = op === 'flush' ? '' : ` at sector ${sector} (${plural(count, 'sector')})`;
  return `${op} failed${where}: ${errnoText(errno)} (${code})`;
}

function sourceLines(plan: Plan, failures: readonly Failure[]): string[] {
  const own = failures.filter((failure) => failure.destination === null);
  const lines = own.slice(0, FAILURES_SHOWN).map((failure) => `source ${plan.source}: ${describe(failure)}`);
  if (own.length > FAILURES_SHOWN)
    lines.push(`source ${plan.source}: and ${own.length - FAILURES_SHOWN} more failures`);
  return lines;
}

function speedLine({ engine }: Plan, { outcome, aborted }: Ending): string {
  const time = formatDuration(outcome.durationMs);
  const complete = outcome.destinations.every(({ ok }) => ok);
  const rate = outcome.durationMs > 0 ? `, ${formatRate((outcome.bytes * 1000) / outcome.durationMs)}` : '';
  const done = complete
    ? `${formatBytes(outcome.bytes)} copied in ${time}${rate}`
    : `${aborted ? 'aborted' : 'failed'} after ${time}`;
  return `${done}; engine ${engine.kind} (${engine.reason})`;
}
