// What many runs add up to: medians and spread. Pure; it knows nothing of what was measured.

/** A figure of several runs. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly runs: number;
}

/** The middle value; of an even number of values, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('no values have no median');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Median and extremes. */
export function summarize(values: readonly number[]): Summary {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values), runs: values.length };
}

/** Every figure that all samples have, summarized. */
export function summarizeAll(samples: readonly Readonly<Record<string, number>>[]): Record<string, Summary> {
  const summaries: Record<string, Summary> = {};
  for (const name of Object.keys(samples[0] ?? {})) {
    const values = samples.map((sample) => sample[name]).filter((value) => value !== undefined);
    if (values.length === samples.length) summaries[name] = summarize(values);
  }
  return summaries;
}
