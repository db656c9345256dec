// The progress bar on a terminal: one line on standard error, drawn by cli-progress. It only shows what it is told.
import { type Options, Presets, SingleBar } from 'cli-progress';
import type { Progress } from '../index.js';
import { formatBytes, formatDuration, formatRate } from './format.js';

const SECTOR_BYTES = 512;

/** Shows a copy's progress until `stop`. */
export class ProgressBar {
  readonly #bar: SingleBar;

  constructor(sectorsTotal: number) {
    const options: Options = {
      format: '{bar} {percentage}%  {done} of {all}  {rate}  {left}{failed}',
      stream: process.stderr,
      hideCursor: true,
      // Its own handlers of signals would end the process; ours abort the copy and restore the cursor.
      gracefulExit: false,
    };
    this.#bar = new SingleBar(options, Presets.shades_classic);
    const all = formatBytes(sectorsTotal * SECTOR_BYTES);
    this.#bar.start(sectorsTotal, 0, { done: formatBytes(0), all, rate: '', left: '', failed: '' });
  }

  update(progress: Progress): void {
    const failed = progress.destinations.filter((destination) => destination.failed).length;
    this.#bar.update(progress.sectorsDone, {
      done: formatBytes(progress.sectorsDone * SECTOR_BYTES),
      rate: formatRate(progress.bytesPerSecond),
      left: progress.etaMs === null ? '' : `${formatDuration(progress.etaMs)} left`,
      failed: failed === 0 ? '' : `  ${failed} failed`,
    });
  }

  /** Leaves the bar as it is, restores the cursor and ends the line. */
  stop(): void {
    this.#bar.stop();
  }
}
