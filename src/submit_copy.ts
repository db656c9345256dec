// A job in the kernel's own shape: opened Devices, flags, a completion callback and its context; no promise, nothing that
// a small job would not need. It refuses paths and descriptors, because opening takes a promise.
import { AsyncResource } from 'node:async_hooks';
import type { NotifyFn } from '../index.js';
import type { Client, Job } from './client.js';
import type { OpenDevice } from './device.js';
import { outOfRange, surface, wrongType } from './errors.js';
import { giveBack, takeOpened } from './job_devices.js';
import { FLAG_IGNORE_ERROR, FLAG_WRITE_SEQ } from './native.js';
import { type Regions, readOpenedRegions, readOpenedZeroRegions } from './regions.js';

/** `KcopydClient.submitCopy`. Throws every refusal; once it returns, exactly one `notify`. */
export function submitCopy(
  client: Client,
  from: unknown,
  to: unknown,
  flags: unknown,
  notify: unknown,
  context: unknown,
): void {
  submit(client, readOpenedRegions(from, to), flags, notify, context);
}

/** `KcopydClient.submitZero`. The same. */
export function submitZero(client: Client, to: unknown, flags: unknown, notify: unknown, context: unknown): void {
  submit(client, readOpenedZeroRegions(to), flags, notify, context);
}

function submit(client: Client, regions: Regions<OpenDevice>, flags: unknown, notify: unknown, context: unknown): void {
  const known = readFlags(flags);
  if (typeof notify !== 'function') throw wrongType('notify', 'a function', notify);
  client.refuseIfClosed();
  const taken = takeOpened(regions);
  try {
    client.submit(regions, known, new NotifyJob(taken, notify as NotifyFn<unknown>, context));
  } catch (error) {
    giveBack(taken);
    throw error;
  }
}

function readFlags(flags: unknown): number {
  const expected = 'IGNORE_ERROR, WRITE_SEQ, both or-ed, or 0';
  if (typeof flags !== 'number') throw wrongType('flags', expected, flags);
  // Neither NaN, fractions and negatives nor numbers beyond 2^32 survive the mask unchanged.
  if (flags !== (flags & (FLAG_IGNORE_ERROR | FLAG_WRITE_SEQ))) throw outOfRange('flags', expected, flags);
  return flags;
}

/** An AsyncResource, so that the callback runs in the asynchronous context of whoever submitted, as promises do by themselves. */
class NotifyJob extends AsyncResource implements Job {
  readonly #taken: readonly OpenDevice[];
  readonly #notify: NotifyFn<unknown>;
  readonly #context: unknown;

  constructor(taken: readonly OpenDevice[], notify: NotifyFn<unknown>, context: unknown) {
    super('KcopydJob');
    this.#taken = taken;
    this.#notify = notify;
    this.#context = context;
  }

  finish(readErr: number, writeErr: number): void {
    giveBack(this.#taken);
    try {
      this.runInAsyncScope(this.#notify, undefined, readErr, writeErr, this.#context);
    } catch (error) {
      // It is the caller's bug and must be seen, but the other jobs' completions are still to be delivered (P1).
      surface(error);
    }
  }
}
