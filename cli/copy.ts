// `kcopyd copy`: opens the devices, runs one job, shows its progress, says what came of it. How that is said is in report.ts
// and explain.ts; what may be copied where is the package's to decide.
import { KcopydError, type Outcome, type Progress } from '../index.js';
import { Abort } from './abort.js';
import type { CopyArguments } from './arguments.js';
import { ProgressBar } from './bar.js';
import { type AbortingSignal, EXIT_COMPLETE, EXIT_FAILED, EXIT_SIGNALS, EXIT_USAGE } from './exit_codes.js';
import { exitCodeOf, explain } from './explain.js';
import { ownOutput } from './own_output.js';
import { type Ending, outcomeLines } from './report.js';
import { Setup } from './setup.js';
import { complain, print, printJson } from './streams.js';

/** Copies as asked for; the exit code. */
export async function copy(args: CopyArguments): Promise<number> {
  const own = await ownOutput(args.destinations);
  if (own !== undefined) {
    complain(`${own} is where this command prints to, which would be written over the copy: name another destination`);
    return EXIT_USAGE;
  }
  const show = args.json ? new JsonShow() : new TerminalShow();
  const abort = new Abort({ aborting: (by) => show.aborting(by), dying: () => show.stop() });
  const setup = new Setup(args);
  const code = await attempt(args, setup, show, abort);
  return closed(setup, code);
}

async function attempt(args: CopyArguments, setup: Setup, show: Show, abort: Abort): Promise<number> {
  try {
    await setup.open(abort.signal);
    // Not all destinations are open: a job of the others alone would tell of them alone.
    if (abort.by !== undefined) return aborted(show, abort.by);
    const ending = await runJob(args, setup, show, abort.signal);
    return show.ended(setup, ending, exitCode(ending.outcome, abort));
  } catch (error) {
    if (!(error instanceof KcopydError)) throw error;
    if (abort.by !== undefined) return aborted(show, abort.by);
    return show.refused(error, explain(error, setup.asked), exitCodeOf(error));
  } finally {
    abort.stop();
  }
}

function aborted(show: Show, by: AbortingSignal): number {
  return show.refused({ code: 'ABORT_ERR' }, 'aborted before anything was copied', EXIT_SIGNALS[by]);
}

/** Closing may be the first to tell that something written is lost; then the copy was none, whatever was printed. */
async function closed(setup: Setup, code: number): Promise<number> {
  try {
    await setup.close();
    return code;
  } catch (error) {
    if (!(error instanceof KcopydError)) throw error;
    complain(error.message);
    return code === EXIT_COMPLETE ? EXIT_FAILED : code;
  }
}

/** An outcome, whether it resolved or not; rejects if there is none. */
async function runJob(args: CopyArguments, setup: Setup, show: Show, signal: AbortSignal): Promise<Ending> {
  const { ignoreErrors, flush } = args;
  show.started(setup);
  const onProgress = (progress: Progress): void => show.progress(progress);
  const options = { ignoreErrors, flush, signal, ...(show.watches && { onProgress }) };
  try {
    return { outcome: await setup.client.copy(setup.from, setup.to, options), aborted: false };
  } catch (error) {
    if (!(error instanceof KcopydError) || !error.outcome) throw error;
    return { outcome: error.outcome, aborted: error.code === 'ABORT_ERR' };
  } finally {
    show.stop();
  }
}

/** A job that was complete before an abort took effect is complete. */
function exitCode(outcome: Outcome, abort: Abort): number {
  if (outcome.destinations.every(({ ok }) => ok)) return EXIT_COMPLETE;
  return abort.by === undefined ? EXIT_FAILED : EXIT_SIGNALS[abort.by];
}

/** Why nothing was begun. */
type Refusal = Pick<KcopydError, 'code' | 'path' | 'destination'>;

/** How a copy is shown while it runs and when it has ended. */
interface Show {
  /** Whether progress is wanted at all. */
  readonly watches: boolean;
  started(setup: Setup): void;
  progress(progress: Progress): void;
  /** A signal has come. */
  aborting(by: AbortingSignal): void;
  /** Leaves the terminal as it was. */
  stop(): void;
  ended(setup: Setup, ending: Ending, exitCode: number): number;
  refused(why: Refusal, text: string, exitCode: number): number;
}

/** For a person: a bar on standard error if that is a terminal, the report on standard output. */
class TerminalShow implements Show {
  readonly watches: boolean = process.stderr.isTTY === true;
  #bar: ProgressBar | undefined;

  started(setup: Setup): void {
    if (this.watches) this.#bar = new ProgressBar(setup.sectorsTotal);
  }

  progress(progress: Progress): void {
    this.#bar?.update(progress);
  }

  aborting(by: AbortingSignal): void {
    this.stop();
    complain(`${by}: no new I/O, what is in flight lands; a second one ends this at once`);
  }

  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }

  ended(setup: Setup, ending: Ending, exitCode: number): number {
    for (const line of outcomeLines(setup.plan, ending)) print(line);
    return exitCode;
  }

  refused(_why: Refusal, text: string, exitCode: number): number {
    complain(text);
    return exitCode;
  }
}

/** For a program: newline-delimited JSON on standard output. */
class JsonShow implements Show {
  readonly watches: boolean = true;

  started({ plan, sectorsTotal }: Setup): void {
    printJson({ type: 'start', ...plan, sectorsTotal });
  }

  progress(progress: Progress): void {
    printJson({ type: 'progress', ...progress });
  }

  aborting(signal: AbortingSignal): void {
    printJson({ type: 'aborting', signal });
  }

  stop(): void {}

  ended({ plan }: Setup, { outcome, aborted }: Ending, exitCode: number): number {
    const destinations = outcome.destinations.map((state, index) => ({ path: plan.destinations[index], ...state }));
    printJson({ type: 'outcome', complete: exitCode === EXIT_COMPLETE, aborted, ...outcome, destinations });
    return exitCode;
  }

  refused({ code, path, destination }: Refusal, message: string, exitCode: number): number {
    printJson({ type: 'error', code, message, path: path ?? null, destination: destination ?? null });
    return exitCode;
  }
}
