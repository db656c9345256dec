// Which cases there are. What each one measures is in files of their own.
import type { Case } from './case.js';
import { FILES } from './files.js';
import { LATENCY } from './latency.js';
import { OVERHEADS } from './overheads.js';
import { SLOW_DESTINATION } from './slow_destination.js';
import { SMALL_JOBS } from './small_jobs.js';
import { TUNING } from './tuning.js';
import { WHOLE_DEVICES } from './whole_devices.js';
import { ZEROES } from './zeroes.js';

/** All of them. */
export const CASES: readonly Case[] = [
  ...WHOLE_DEVICES,
  ...SMALL_JOBS,
  ...LATENCY,
  ...SLOW_DESTINATION,
  ...FILES,
  ...ZEROES,
  ...OVERHEADS,
  ...TUNING,
];
