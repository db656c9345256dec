// A completion that the caller makes itself: `dm_kcopyd_prepare_callback` and `dm_kcopyd_do_callback`. It refuses to know
// jobs; it only queues behind what is due.
import { AsyncResource } from 'node:async_hooks';
import type { NotifyFn } from '../index.js';
import type { Client } from './client.js';
import { alreadyCalled, surface, wrongType } from './errors.js';
import { wholeNumber } from './options.js';

/** The most that `writeErr` can be: every destination failed. */
const WRITE_ERR_MAX = 0xffff_ffff;

/** `KcopydClient.prepareCallback`. */
export function prepareCallback(
  client: Client,
  notify: unknown,
  context: unknown,
): (readErr: number, writeErr: number) => void {
  if (typeof notify !== 'function') throw wrongType('notify', 'a function', notify);
  client.refuseIfClosed();
  // It runs in the asynchronous context of whoever prepared it, as the callback of a job does.
  const resource = new AsyncResource('KcopydCallback');
  let isCalled = false;
  return (readErr, writeErr) => {
    if (isCalled) throw alreadyCalled();
    wholeNumber(readErr, 'readErr', 0, Number.MAX_SAFE_INTEGER);
    wholeNumber(writeErr, 'writeErr', 0, WRITE_ERR_MAX);
    isCalled = true;
    client.deliverLater(() => {
      try {
        resource.runInAsyncScope(notify as NotifyFn<unknown>, undefined, readErr, writeErr, context);
      } catch (error) {
        surface(error);
      }
    });
  };
}
