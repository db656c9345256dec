// What is behind the public KcopydClient: the native client, the jobs in flight by their tokens, the doorbell, and when the
// process is kept alive. It refuses to know what a job is for: copy.ts and submit_copy.ts bring jobs and take their ends.

import type { OpenDevice } from './device.js';
import { binding } from './device.js';
import { clientClosed, fromNative, outOfRange, surface } from './errors.js';
import { JobTable } from './job_table.js';
import {
  DESTINATIONS_MAX,
  PAGE_SECTORS,
  PAGES_DEFAULT,
  PAGES_MAX,
  SUB_JOB_SECTORS_DEFAULT,
  SUB_JOB_SECTORS_MAX,
  SUB_JOB_SECTORS_MIN,
} from './limits.js';
import {
  isNativeError,
  type NativeClient,
  type NativeError,
  type NativeOutcome,
  type NativeStats,
  RECORD_NUMBERS,
  ZEROES,
} from './native.js';
import { integer, oneOf, readObject } from './options.js';
import type { Accepted } from './outcome.js';
import type { RegionRequest, Regions } from './regions.js';
import { Tally } from './tally.js';
import { throttle } from './throttle.js';

/** A job in flight. */
export interface Job {
  /** Its completion, exactly once, never from inside `submit`. `outcome` is null for a full success. Must not throw. */
  finish(readErr: number, writeErr: number, outcome: NativeOutcome | null): void;
}

/** Something that is delivered as completions are: later, one at a time, and after what was due before it. */
interface Due {
  readonly deliver: () => void;
  /** Once so many completions of jobs have been delivered, all that were due before it have been. */
  readonly after: number;
}

/** Completions taken in one go; between two of these the event loop breathes. */
const RECORDS_PER_DRAIN = 1024;

const ENGINES = ['auto', 'io_uring', 'threads'] as const;
type EngineChoice = (typeof ENGINES)[number];

const CLIENT_OPTIONS = {
  pages: integer(1, PAGES_MAX),
  subJobSectors: integer(SUB_JOB_SECTORS_MIN, SUB_JOB_SECTORS_MAX),
  engine: oneOf(...ENGINES),
  throttle,
} as const;

// The doorbell knows its client weakly, so that one that nobody knows any more is collected (and closes itself). A client
// with something under way must not be: it is listed here.
const busy = new Set<Client>();

export class Client {
  /** Calls of `copy` that have not submitted yet; the native client must not be closed before. */
  readonly preparing: Tally = new Tally();
  /** Calls of `copy` that have not settled yet. */
  readonly unsettled: Tally = new Tally();
  readonly #native: NativeClient;
  readonly #jobs = new JobTable<Job>();
  readonly #request = new Float64Array(6 + 3 * DESTINATIONS_MAX);
  readonly #records = new Float64Array(RECORDS_PER_DRAIN * RECORD_NUMBERS);
  /** What is due besides completions of jobs, first come, first served. */
  readonly #due: Due[] = [];
  /** Whether the next drain waits until the event loop has come round, and whether there is something to drain then. */
  #waitsForTurn = false;
  #drainsThen = false;
  #delivered = 0;
  #mayKeepAlive = true;
  #keepsAlive = false;
  #life: 'open' | 'closing' | 'gone' = 'open';
  #closing: Promise<void> | undefined;
  #gone: () => void = () => {};

  private constructor(native: NativeClient) {
    this.#native = native;
  }

  static async create(options: unknown): Promise<Client> {
    const read = readObject(options, 'options', CLIENT_OPTIONS);
    const { pages = PAGES_DEFAULT, subJobSectors } = read;
    const poolSectors = pages * PAGE_SECTORS;
    if (subJobSectors !== undefined && subJobSectors > poolSectors) {
      throw outOfRange('options.subJobSectors', `at most ${poolSectors}, the sectors of ${pages} pages`, subJobSectors);
    }
    const resolved = {
      pages,
      subJobSectors: subJobSectors ?? Math.min(SUB_JOB_SECTORS_DEFAULT, poolSectors),
      engine: engineChoice(read.engine),
      throttle: read.throttle?.native() ?? null,
    };
    let doorbell = (): void => {};
    const native = await binding().createClient(resolved, () => doorbell());
    if (isNativeError(native)) throw fromNative(native);
    const client = new Client(native);
    const weak = new WeakRef(client);
    doorbell = () => weak.deref()?.rung();
    return client;
  }

  get stats(): NativeStats {
    return this.#native.stats();
  }

  /** The caller's jobs may (not) keep the process alive. */
  keepAlive(may: boolean): void {
    this.#mayKeepAlive = may;
    this.#update();
  }

  /** Throws unless the client takes jobs. */
  refuseIfClosed(): void {
    if (this.#life !== 'open') throw clientClosed();
  }

  /** Hands a job to the native part; throws its refusal. Returns the job's token and what it was accepted as. */
  submit(regions: Regions<OpenDevice>, flags: number, job: Job): Accepted & { readonly token: number } {
    const token = this.#jobs.nextToken();
    const { source, destinations } = regions;
    const request = this.#request;
    request[0] = token;
    request[1] = flags;
    if (source) putRegion(request, 2, source);
    else request[2] = ZEROES;
    request[5] = destinations.length;
    for (let index = 0; index < destinations.length; index++) putRegion(request, 6 + 3 * index, destinations[index]!);
    const refusal = this.#native.submit(request);
    if (refusal) throw refused(refusal, regions);
    this.#jobs.put(token, job);
    if (!this.#keepsAlive) this.#update();
    return { token, sectors: request[0]!, bytes: request[1]! };
  }

  /** Stops new sub-jobs of a job. */
  abort(token: number): void {
    this.#native.abort(token);
  }

  /** How far a job with FLAG_PROGRESS is. */
  progress(token: number, into: Float64Array): boolean {
    return this.#native.progress(token, into);
  }

  /** Every call is the same close. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#life = 'closing';
    this.#update();
    // A `copy` that still opens its devices was called before: it is a job like any other.
    if (this.preparing.count > 0) await this.preparing.zero();
    const gone = new Promise<void>((resolve) => {
      this.#gone = resolve;
    });
    this.#native.close();
    await gone;
    await this.unsettled.zero();
    // A prepared callback that was called is a completion like any other.
    if (this.#due.length > 0) await new Promise<void>((resolve) => this.deliverLater(resolve));
  }

  /** Runs something after every completion that is due now, as completions run; it must not throw. */
  deliverLater(deliver: () => void): void {
    // No more than the jobs in flight can be due: so that jobs which callbacks submit do not put this off for ever.
    this.#due.push({ deliver, after: this.#delivered + this.#jobs.size });
    this.#drainSoon();
  }

  #drainSoon(): void {
    this.#drainsThen = true;
    this.#endTurn();
  }

  /** Looks again when the event loop has come round; more than once in a turn would each bring on another. */
  #endTurn(): void {
    if (this.#waitsForTurn) return;
    this.#waitsForTurn = true;
    setImmediate(() => {
      this.#waitsForTurn = false;
      if (this.#drainsThen) this.#drain();
    });
  }

  /**
   * The native part has something to deliver. Node answers a thousand rings in one turn of the event loop, and while we deliver
   * the next ones come: so only the first is answered at once, lest a fast device keep everybody else waiting.
   */
  rung(): void {
    if (this.#waitsForTurn) this.#drainSoon();
    else this.#drain();
  }

  /** Delivers what is due; never from inside a call of ours. */
  #drain(): void {
    this.#drainsThen = false;
    this.#endTurn();
    const records = this.#records;
    // What the callbacks below put into the queue is later than completions that have not been taken yet.
    const waiting = this.#due.length;
    const count = this.#native.drain(records);
    for (let at = 0; at < count * RECORD_NUMBERS; at += RECORD_NUMBERS) {
      this.#deliver(records[at]!, records[at + 1]!, records[at + 2]!, records[at + 3] !== 0);
    }
    const isMore = count === RECORDS_PER_DRAIN;
    this.#deliverDue(waiting, isMore);
    if (isMore || this.#due.length > 0) this.#drainSoon();
    // Only now: a callback often submits the next job, and then nothing has changed.
    this.#update();
  }

  /** Those at the front of the queue whose turn it is. Taken out at once: one by one, a long queue would be moved each time. */
  #deliverDue(waiting: number, isMore: boolean): void {
    let ready = isMore ? 0 : waiting;
    while (ready < waiting && this.#due[ready]!.after <= this.#delivered) ready++;
    for (const { deliver } of this.#due.splice(0, ready)) deliver();
  }

  #deliver(token: number, readErr: number, writeErr: number, detail: boolean): void {
    if (token === 0) {
      this.#life = 'gone';
      this.#gone();
      return;
    }
    const job = this.#jobs.take(token);
    this.#delivered++;
    // Taken also where nobody asks for it: the native part keeps it until then.
    const outcome = detail ? this.#native.outcome(token) : null;
    try {
      job?.finish(readErr, writeErr, outcome);
    } catch (error) {
      // It must not throw; should it all the same, the completions behind it are still to be delivered (P1).
      surface(error);
    }
  }

  #update(): void {
    const isBusy = this.#jobs.size > 0 || this.#life === 'closing';
    if (isBusy) busy.add(this);
    else busy.delete(this);
    const keeps = isBusy && this.#mayKeepAlive;
    if (keeps === this.#keepsAlive) return;
    this.#keepsAlive = keeps;
    if (keeps) this.#native.ref();
    else this.#native.unref();
  }
}

function putRegion(request: Float64Array, at: number, { device, sector, count }: RegionRequest<OpenDevice>): void {
  request[at] = device.handle;
  request[at + 1] = sector;
  request[at + 2] = count;
}

function refused(refusal: NativeError, { source, destinations }: Regions<OpenDevice>): Error {
  // Most refusals are about a region; without a destination it is the source's, or the client's.
  const region = refusal.destination === null ? source : destinations[refusal.destination];
  return fromNative(refusal, refusal.destination === null || !region ? {} : { path: region.device.path });
}

/** What `engine` says; the environment stands in for a caller who does not mind which. */
function engineChoice(engine: EngineChoice = 'auto'): EngineChoice {
  if (engine !== 'auto') return engine;
  const named = process.env.KCOPYD_ENGINE;
  if (named === undefined || named === '') return 'auto';
  const known = ENGINES.find((candidate) => candidate === named);
  if (known) return known;
  throw outOfRange('the environment variable KCOPYD_ENGINE', `one of 'auto', 'io_uring', 'threads'`, named);
}
