// Jobs with a promise, copies and zeroes: reads the request, gets its devices, submits it, watches its signal and its progress, and settles
// when everything that was opened for it is closed again. It refuses to know completions' numbers and records.
import { addAbortListener, setMaxListeners } from 'node:events';
import type { Outcome, Progress } from '../index.js';
import type { Client, Job } from './client.js';
import type { OpenDevice } from './device.js';
import { KcopydError, surface } from './errors.js';
import { type JobDevices, releaseDevices, takeDevices } from './job_devices.js';
import { FLAG_FLUSH, FLAG_IGNORE_ERROR, FLAG_PROGRESS, FLAG_WRITE_SEQ, type NativeOutcome } from './native.js';
import { abortSignal, callback, flag, readObject } from './options.js';
import {
  type Accepted,
  abortedError,
  brokenError,
  failedError,
  fromNativeOutcome,
  fullSuccess,
  isSuccess,
  type JobNames,
  notBegun,
} from './outcome.js';
import { ProgressReporter } from './progress.js';
import { type Regions, readRegions, readZeroRegions } from './regions.js';

const JOB_OPTIONS = {
  ignoreErrors: flag,
  sequential: flag,
  flush: flag,
  signal: abortSignal,
  onProgress: callback<(progress: Progress) => void>,
} as const;

interface Request {
  readonly regions: Regions;
  readonly flags: number;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((progress: Progress) => void) | undefined;
}

/** `KcopydClient.copy`. */
export function copy(client: Client, from: unknown, to: unknown, options: unknown): Promise<Outcome> {
  return carryOut(client, () => readRequest(readRegions(from, to), options));
}

/** `KcopydClient.zero`. */
export function zero(client: Client, to: unknown, options: unknown): Promise<Outcome> {
  return carryOut(client, () => readRequest(readZeroRegions(to), options));
}

/** The promise of this very function is the caller's, so that whoever waits for `unsettled` hears of its end after the caller. */
async function carryOut(client: Client, read: () => Request): Promise<Outcome> {
  const request = read();
  client.refuseIfClosed();
  refuseIfAborted(request);
  client.unsettled.add();
  let devices: JobDevices | undefined;
  try {
    let running: Promise<Outcome>;
    // Until it is submitted the client waits with closing; with opened Devices that is before `copy` returns.
    client.preparing.add();
    try {
      const taken = takeDevices(request.regions);
      devices = taken instanceof Promise ? await taken : taken;
      running = run(client, request, devices.regions);
    } finally {
      client.preparing.remove();
    }
    const outcome = await running;
    const released = releaseDevices(devices);
    devices = undefined;
    if (released) await closed(released, outcome);
    return outcome;
  } catch (error) {
    // What the job came to matters more than how its devices closed.
    if (devices) await releaseDevices(devices)?.catch(() => {});
    throw error;
  } finally {
    client.unsettled.remove();
  }
}

function readRequest(regions: Regions, options: unknown): Request {
  const { ignoreErrors, sequential, flush, signal, onProgress } = readObject(options, 'options', JOB_OPTIONS);
  const flags =
    (ignoreErrors ? FLAG_IGNORE_ERROR : 0) |
    (sequential ? FLAG_WRITE_SEQ : 0) |
    (flush ? FLAG_FLUSH : 0) |
    (onProgress ? FLAG_PROGRESS : 0);
  return { regions, flags, signal, onProgress };
}

/** A close may be the first to tell of a lost write: then a job that had succeeded was no success. */
async function closed(releasing: Promise<void>, outcome: Outcome): Promise<void> {
  await releasing.catch((error: KcopydError) => {
    throw new KcopydError(error.code, `${error.message}; the job itself had succeeded`, { ...error, outcome });
  });
}

function run(client: Client, request: Request, regions: Regions<OpenDevice>): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    refuseIfAborted(request);
    new PromisedJob(request, regions, resolve, reject).begin(client);
  });
}

function refuseIfAborted({ signal, regions }: Request): void {
  if (!signal?.aborted) return;
  const destinations = regions.destinations.length;
  const names = { sectors: 0, source: undefined, destinations: [] };
  throw abortedError(notBegun(destinations), signal.reason, names);
}

class PromisedJob implements Job {
  readonly #request: Request;
  readonly #regions: Regions<OpenDevice>;
  readonly #resolve: (outcome: Outcome) => void;
  readonly #reject: (error: Error) => void;
  readonly #startMs = performance.now();
  #accepted: Accepted = { sectors: 0, bytes: 0 };
  #listener: Disposable | undefined;
  #reporter: ProgressReporter | undefined;

  constructor(
    request: Request,
    regions: Regions<OpenDevice>,
    resolve: (outcome: Outcome) => void,
    reject: (error: Error) => void,
  ) {
    this.#request = request;
    this.#regions = regions;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  begin(client: Client): void {
    const { flags, signal, onProgress } = this.#request;
    let token = 0;
    // Before the job, so that nothing can fail once it runs.
    if (signal) this.#listener = listen(signal, () => client.abort(token));
    try {
      const accepted = client.submit(this.#regions, flags, this);
      token = accepted.token;
      this.#accepted = accepted;
    } catch (error) {
      this.#listener?.[Symbol.dispose]();
      throw error;
    }
    if (!onProgress) return;
    const look = (into: Float64Array): boolean => client.progress(token, into);
    this.#reporter = new ProgressReporter(onProgress, this.#accepted, this.#regions.destinations.length, look);
  }

  finish(_readErr: number, _writeErr: number, native: NativeOutcome | null): void {
    ask(() => this.#listener?.[Symbol.dispose]());
    const durationMs = performance.now() - this.#startMs;
    const outcome = native
      ? fromNativeOutcome(native, durationMs)
      : fullSuccess(this.#accepted, this.#regions.destinations.length, durationMs);
    this.#reporter?.finish(outcome);
    // A job that was complete before its abort took effect is a success.
    if (isSuccess(outcome)) this.#resolve(outcome);
    else if (native?.poisoned) this.#reject(brokenError(outcome, this.#names()));
    else if (native?.aborted)
      this.#reject(
        abortedError(
          outcome,
          ask(() => this.#request.signal?.reason),
          this.#names(),
        ),
      );
    else this.#reject(failedError(outcome, this.#names()));
  }

  #names(): JobNames {
    return {
      sectors: this.#accepted.sectors,
      source: this.#regions.source?.device.path,
      destinations: this.#regions.destinations.map(({ device }) => device.path),
    };
  }
}

/** Asks something of the caller's signal, which may be of the caller's own making: what it throws surfaces, and the job ends. */
function ask<T>(question: () => T): T | undefined {
  try {
    return question();
  } catch (error) {
    surface(error);
    return undefined;
  }
}

/** One signal for many jobs at once is what a signal is for, and every listener goes with its job: Node need not warn of a leak. */
function listen(signal: AbortSignal, abort: () => void): Disposable {
  if (signal instanceof EventTarget) setMaxListeners(0, signal);
  return addAbortListener(signal, abort);
}
