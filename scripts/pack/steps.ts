// The steps of a rehearsal: each says that it begins and what it saw; one that fails does not end the others; one that cannot be
// taken on this machine is named with the reason. At the end, however the process ends, what was laid out is cleared away.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { oneLine, say } from './say.js';

/** This machine cannot take the step; the message says why, in one line. */
export class NotHere extends Error {}

/** How a step ended. */
type Ending = 'passed' | 'failed' | 'skipped';

/** What a rehearsal did. */
export class Steps {
  /** For everything that is gone afterwards. */
  readonly directory: string = mkdtempSync(join(tmpdir(), 'kcopyd-rehearsal-'));
  readonly #endings: { readonly title: string; readonly ending: Ending; readonly text: string }[] = [];
  readonly #atEnd: (() => void)[] = [];

  constructor() {
    // Synchronous, because nothing else runs any more then; on every way out, Ctrl-C among them.
    process.once('exit', () => this.clear());
    for (const [signal, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
      ['SIGHUP', 129],
    ] as const) {
      process.once(signal, () => process.exit(code));
    }
  }

  /** Takes a step, which returns what it saw, in words; whether it passed. */
  async take(title: string, step: () => Promise<string>): Promise<boolean> {
    const began = Date.now();
    say(`${title} …`);
    try {
      const text = await step();
      this.#end(title, 'passed', `${text} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
      return true;
    } catch (error) {
      if (error instanceof NotHere) this.#end(title, 'skipped', error.message);
      else this.#end(title, 'failed', error instanceof Error ? error.message : oneLine(error));
      return false;
    }
  }

  /** Does something when the rehearsal is over, also when it is broken off; it must not be asynchronous. */
  atEnd(clear: () => void): void {
    this.#atEnd.push(clear);
  }

  /** Clears away. */
  clear(): void {
    for (const clear of this.#atEnd.splice(0).reverse()) clear();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Says how all of them ended; the exit code. */
  summary(): number {
    console.log();
    for (const { title, ending, text } of this.#endings)
      say(`${ending}: ${title}: ${ending === 'failed' ? oneLine(text).slice(0, 300) : text}`);
    const count = (ending: Ending) => this.#endings.filter((one) => one.ending === ending).length;
    console.log(`${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped`);
    return count('failed') === 0 ? 0 : 1;
  }

  #end(title: string, ending: Ending, text: string): void {
    this.#endings.push({ title, ending, text });
    say(`${ending}: ${title}: ${text}`);
  }
}
