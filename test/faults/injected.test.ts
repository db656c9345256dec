// The Nth call of a kind fails, or the process is killed there, for N = 1, 2, 3, … until a run gets through without an Nth call.
// strace does it to a process that copies by the core alone; the program compares every byte after every run, and takes no crash
// and no hang. Some faults must not be noticed at all, others may fail jobs, but never more is reported than is there.
import { describe, expect } from 'vitest';
import type { EngineName } from '../support/kcopyd.js';
import { hasStrace } from '../support/machine.js';
import { test } from '../support/test.js';
import { needsTorture, torture, worked } from './support/torture.js';

interface Counted {
  readonly hits: number;
  readonly jobsDone: number;
  readonly jobsFailed: number;
  readonly refused: number;
  readonly killed: number;
  readonly broken: number;
}

/** What may come of a fault. */
type Consequence =
  /** Nothing: every job succeeds. */
  | 'unnoticed'
  /** Nothing, once a client is there: a device or a client may be refused before. */
  | 'at most refused'
  /** Jobs may fail, and say so. */
  | 'jobs may fail';

type Injected = readonly [engine: EngineName | 'auto', call: string, what: string, consequence: Consequence];

const FAULTS: readonly Injected[] = [
  ['io_uring', 'io_uring_enter', 'error=EINTR', 'at most refused'],
  ['io_uring', 'io_uring_enter', 'error=EAGAIN', 'at most refused'],
  ['io_uring', 'io_uring_enter', 'error=EBUSY', 'at most refused'],
  ['io_uring', 'io_uring_enter', 'error=ENOMEM', 'at most refused'],
  ['io_uring', 'io_uring_enter', 'error=EPERM', 'jobs may fail'],
  ['auto', 'io_uring_enter', 'error=EFAULT', 'jobs may fail'],
  ['io_uring', 'io_uring_register', 'error=ENOMEM', 'at most refused'],
  ['io_uring', 'io_uring_register', 'error=EINVAL', 'at most refused'],
  ['auto', 'io_uring_register', 'error=EPERM+', 'unnoticed'],
  ['auto', 'io_uring_setup', 'error=ENOSYS', 'unnoticed'],
  ['auto', 'io_uring_setup', 'error=EPERM', 'unnoticed'],
  ['auto', 'io_uring_setup', 'error=ENOMEM+', 'unnoticed'],
  ['auto', 'io_uring_setup', 'error=EMFILE+', 'unnoticed'],
  ['auto', 'eventfd2', 'error=EMFILE', 'at most refused'],
  ['auto', 'madvise', 'error=ENOMEM', 'at most refused'],
  ['auto', 'clone3', 'error=EAGAIN', 'at most refused'],
  ['auto', 'openat', 'error=EMFILE', 'at most refused'],
  ['auto', 'ioctl', 'error=EIO', 'at most refused'],
  ['auto', 'fstat', 'error=EIO', 'at most refused'],
  ['auto', 'fcntl', 'error=EINTR', 'at most refused'],
  ['auto', 'flock', 'error=EINTR', 'at most refused'],
  ['threads', 'pread64', 'error=EINTR', 'at most refused'],
  ['threads', 'pread64', 'error=EAGAIN', 'at most refused'],
  ['threads', 'pread64', 'error=ENOMEM', 'jobs may fail'],
  ['threads', 'pread64', 'error=EIO', 'jobs may fail'],
  ['threads', 'pread64', 'error=EIO+', 'jobs may fail'],
  ['threads', 'pread64', 'retval=0', 'jobs may fail'],
  ['threads', 'pwrite64', 'error=EINTR', 'unnoticed'],
  ['threads', 'pwrite64', 'error=EAGAIN', 'unnoticed'],
  ['threads', 'pwrite64', 'error=ENOSPC', 'jobs may fail'],
  ['threads', 'pwrite64', 'error=EIO+', 'jobs may fail'],
  ['threads', 'pwrite64', 'retval=0', 'jobs may fail'],
  ['threads', 'fdatasync', 'error=EINTR', 'unnoticed'],
  ['threads', 'fdatasync', 'error=EIO', 'jobs may fail'],
  ['threads', 'fallocate', 'error=EOPNOTSUPP', 'unnoticed'],
  ['threads', 'fallocate', 'error=EIO+', 'jobs may fail'],
  ['threads', 'ioctl', 'error=ENOTTY', 'at most refused'],
  ['threads', 'clone3', 'error=EAGAIN', 'at most refused'],
];

const KILLS: readonly (readonly [EngineName, string])[] = [
  ['io_uring', 'io_uring_enter'],
  ['io_uring', 'io_uring_register'],
  ['io_uring', 'io_uring_setup'],
  ['io_uring', 'openat'],
  ['io_uring', 'write'],
  ['io_uring', 'futex'],
  ['io_uring', 'close'],
  ['threads', 'pread64'],
  ['threads', 'pwrite64'],
  ['threads', 'fdatasync'],
  ['threads', 'fallocate'],
  ['threads', 'write'],
  ['threads', 'futex'],
  ['threads', 'clone3'],
];

const JOBS = 10;
const TIMEOUT_MS = 240_000;

const inTheLoop = test.extend<{ nth: (engine: string, call: string, what: string, jobs?: number) => Promise<Counted> }>(
  {
    nth: async ({ workshop, skip }, use) => {
      const strace = await hasStrace();
      if (!strace.available) skip(strace.reason);
      needsTorture(skip);
      const { source, targets } = await worked(workshop, ['512', '4096', 'file']);
      await use((engine, call, what, jobs = JOBS) => {
        return torture<Counted>(['nth', 1, engine, call, what, jobs, source, ...targets], TIMEOUT_MS);
      });
    },
  },
);

describe('the Nth call fails, for every N', () => {
  inTheLoop.for(FAULTS)(
    'P16 on %s, %s: %s, %s',
    { timeout: TIMEOUT_MS },
    async ([engine, call, what, consequence], { nth }) => {
      const counted = await nth(engine, call, what);
      expect(counted.hits, 'the fault has reached the process').toBeGreaterThan(0);
      expect(counted.jobsDone).toBeGreaterThanOrEqual(JOBS);
      expect(counted.broken).toBe(0);
      if (consequence === 'unnoticed') expect(counted.refused).toBe(0);
      if (consequence !== 'jobs may fail') expect(counted.jobsFailed).toBe(0);
    },
  );

  inTheLoop(
    'a call that says it has written what it has not is found out',
    { timeout: TIMEOUT_MS },
    async ({ nth }) => {
      await expect(nth('threads', 'pwrite64', 'retval=512')).rejects.toThrow(
        /sector \d+ of \S+ is wrong; job \d+ wrote there/,
      );
    },
  );

  inTheLoop(
    'P32 from the Nth io_uring_enter on all are refused: every job ends, and the process lives',
    { timeout: TIMEOUT_MS },
    async ({ nth }) => {
      const counted = await nth('io_uring', 'io_uring_enter', 'error=EPERM+', 3);
      expect(counted.jobsFailed).toBeGreaterThan(0);
      expect(counted.broken).toBeGreaterThan(0);
    },
  );
});

describe('the process is killed at the Nth call, for every N', () => {
  inTheLoop.for(KILLS)('P28 on %s, %s', { timeout: TIMEOUT_MS }, async ([engine, call], { nth }) => {
    const counted = await nth(engine, call, 'signal=KILL');
    expect(counted.killed).toBeGreaterThan(0);
    expect(counted.jobsFailed).toBe(0);
  });
});
