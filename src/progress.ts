// Tells a caller how far its job is: a few times a second, and once more at the end. It refuses to touch the job; it looks
// at counters that the native part keeps.
import { AsyncResource } from 'node:async_hooks';
import type { Outcome, Progress } from '../index.js';
import { surface } from './errors.js';
import { SECTOR_BYTES } from './limits.js';
import type { Accepted } from './outcome.js';

/** 125 ms apart there are at most nine in any second, so that with the last one there are never more than ten. */
const INTERVAL_MS = 125;

/** The rate is that of the last two seconds: steady enough to read, quick enough to show a stall. */
const WINDOW = 16;

/** Fills `[sectorsDone, (sectorsDone, failed) …]`; false if the job is not known any more. */
export type Look = (into: Float64Array) => boolean;

export class ProgressReporter {
  readonly #tell: (progress: Progress) => void;
  readonly #accepted: Accepted;
  readonly #look: Look;
  readonly #counters: Float64Array;
  readonly #timer: NodeJS.Timeout;
  readonly #startMs: number;
  readonly #history: { atMs: number; sectors: number }[];

  constructor(onProgress: (progress: Progress) => void, accepted: Accepted, destinations: number, look: Look) {
    // The last call comes from the doorbell; it too belongs to whoever started the job.
    this.#tell = AsyncResource.bind(onProgress);
    this.#accepted = accepted;
    this.#look = look;
    this.#counters = new Float64Array(1 + 2 * destinations);
    this.#startMs = performance.now();
    this.#history = [{ atMs: this.#startMs, sectors: 0 }];
    this.#timer = setInterval(() => this.#tick(), INTERVAL_MS).unref();
  }

  #tick(): void {
    if (!this.#look(this.#counters)) return;
    const now = { atMs: performance.now(), sectors: this.#counters[0]! };
    this.#history.push(now);
    if (this.#history.length > WINDOW) this.#history.shift();
    const then = this.#history[0]!;
    const sectorsPerMs = (now.sectors - then.sectors) / (now.atMs - then.atMs);
    const left = this.#accepted.sectors - now.sectors;
    this.#call(sectorsPerMs, sectorsPerMs > 0 ? left / sectorsPerMs : null);
  }

  /** The last one. Its rate is that of the whole job. */
  finish(outcome: Outcome): void {
    clearInterval(this.#timer);
    if (outcome.readErr === 0 && outcome.writeErr === 0) {
      this.#counters.fill(this.#accepted.sectors);
      for (let index = 0; index < outcome.destinations.length; index++) this.#counters[2 + 2 * index] = 0;
    } else if (!this.#look(this.#counters)) {
      // The job is home and its counters are gone: what was seen last stands, the outcome tells the rest.
      this.#counters[0] = Math.max(this.#counters[0]!, outcome.sectors);
    }
    outcome.destinations.forEach(({ sectors }, index) => {
      const at = 1 + 2 * index;
      this.#counters[at] = Math.max(this.#counters[at]!, sectors);
      if ((outcome.writeErr >>> index) & 1) this.#counters[at + 1] = 1;
    });
    const complete = this.#counters[0] === this.#accepted.sectors;
    this.#call(this.#counters[0]! / Math.max(performance.now() - this.#startMs, 0.001), complete ? 0 : null);
  }

  #call(sectorsPerMs: number, etaMs: number | null): void {
    const counters = this.#counters;
    const destinations = Array.from({ length: (counters.length - 1) / 2 }, (_, index) => {
      return { sectorsDone: counters[1 + 2 * index]!, failed: counters[2 + 2 * index] !== 0 };
    });
    const bytesPerSecond = Math.round(sectorsPerMs * 1000 * SECTOR_BYTES);
    try {
      this.#tell({
        sectorsDone: counters[0]!,
        sectorsTotal: this.#accepted.sectors,
        bytesPerSecond,
        etaMs,
        destinations,
      });
    } catch (error) {
      // As with a completion callback that throws: the caller's bug surfaces, and the job goes on.
      surface(error);
    }
  }
}
