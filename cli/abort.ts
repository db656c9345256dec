// Ctrl-C and its like: the first one aborts what is going on, the second one ends the process at once, in the way that a
// signal ends any program. It knows nothing of what is aborted.
import { type AbortingSignal, EXIT_SIGNALS } from './exit_codes.js';

const SIGNALS = Object.keys(EXIT_SIGNALS) as AbortingSignal[];

/** What is done besides. */
export interface AbortHooks {
  /** At the first signal. */
  readonly aborting: (by: AbortingSignal) => void;
  /** At the second, before the process dies of it: leave the terminal as it was. */
  readonly dying: () => void;
}

/** Listens for the signals that abort, until `stop`. */
export class Abort {
  readonly #controller = new AbortController();
  readonly #hooks: AbortHooks;
  #by: AbortingSignal | undefined;

  constructor(hooks: AbortHooks) {
    this.#hooks = hooks;
    for (const signal of SIGNALS) process.on(signal, this.#received);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The signal that aborted. */
  get by(): AbortingSignal | undefined {
    return this.#by;
  }

  stop(): void {
    for (const signal of SIGNALS) process.off(signal, this.#received);
  }

  readonly #received = (signal: NodeJS.Signals): void => {
    if (this.#by === undefined) {
      this.#by = signal as AbortingSignal;
      this.#hooks.aborting(this.#by);
      this.#controller.abort();
      return;
    }
    // Not process.exit(): that would wait for the I/O in flight, which the person at the keyboard has just declined.
    this.stop();
    this.#hooks.dying();
    process.kill(process.pid, signal);
  };
}
