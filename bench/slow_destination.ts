// One slow destination among three: that job goes at the slow one's pace, and nobody else's does. The slow one is a loop device
// to which the kernel lets this process write only so fast.
import { formatBytes } from '../cli/format.js';
import { Workshop } from '../test/support/workshop.js';
import { atLeast, atMost, type Case, type Result, row, type Setting, withRates } from './case.js';
import { withThrottledWrites } from './cgroup.js';
import { copied, type Subject } from './contenders.js';
import { Disks, needRoom } from './disks.js';
import { type Contender, type Ground, ratio, rounds } from './rounds.js';
import type { ClientWishes } from './task.js';

const MIB = 1 << 20;
const DEVICE_BYTES_MAX = 256 * MIB;
const SLOW_DESTINATIONS = 3;
const SLOW_BYTES_PER_SECOND = 32 * MIB;
/** As often is the other device copied while the slow job goes on. */
const TIMES = 16;
const [ALONE, BESIDE] = ['alone', 'beside a slow one'];

/** The devices of both jobs. */
class Both implements Ground {
  readonly slow: Disks;
  readonly other: Disks;
  readonly group: string;

  constructor(slow: Disks, other: Disks, group: string) {
    this.slow = slow;
    this.other = other;
    this.group = group;
  }

  async spoil(): Promise<void> {
    await this.slow.spoil();
    await this.other.spoil();
  }

  compare(): Promise<void> {
    return this.other.compare();
  }
}

function paths({ source, destinations }: Disks): { source: string; destinations: string[] } {
  return { source: source.path, destinations: destinations.map(({ path }) => path) };
}

function other(start: Subject, name: string, client: ClientWishes, isBesideSlow: boolean): Contender<Both> {
  return {
    name,
    role: 'kcopyd',
    run: async ({ slow, other: fast, group }) => {
      const beside = { group, ...(isBesideSlow && { slow: paths(slow) }) };
      const told = await start({ kind: 'beside', ...paths(fast), bytes: fast.bytes, client, times: TIMES, ...beside });
      // Its last bytes have come as slowly as all the others; the faster destinations have waited for them.
      if (isBesideSlow) await slow.compare();
      return { ...copied(told), ...(told.slow && { slowBytesPerSecond: told.slow.bytes / told.slow.seconds }) };
    },
  };
}

async function slowDestination({ wishes, start, say }: Setting): Promise<Result> {
  const bytes = Math.min(wishes.size, DEVICE_BYTES_MAX);
  const roomBytes = bytes * (SLOW_DESTINATIONS + 3);
  await needRoom(roomBytes);
  const workshop = new Workshop({ roomBytes });
  try {
    const slow = await Disks.make(workshop, { bytes, destinations: SLOW_DESTINATIONS });
    const fast = await Disks.make(workshop, { bytes, destinations: 1 });
    const contenders = [other(start, ALONE!, wishes.client, false), other(start, BESIDE!, wishes.client, true)];
    const rows = await withThrottledWrites(slow.destinations[1]!.path, SLOW_BYTES_PER_SECOND, (group) =>
      rounds(contenders, new Both(slow, fast, group), { ...wishes, say }),
    );
    return result(withRates(rows), bytes);
  } finally {
    await workshop.dispose();
  }
}

function result(rows: Result['rows'], bytes: number): Result {
  const [alone, beside] = [row(rows, ALONE!)!, row(rows, BESIDE!)!];
  const pace = beside.summary.slowBytesPerSecond!.median / SLOW_BYTES_PER_SECOND;
  return {
    rows,
    goals: [
      atLeast("the slow job, in parts of the slow destination's speed", pace, 0.95),
      // More would mean that something was not written there.
      atMost("the slow job, in parts of the slow destination's speed", pace, 1.05),
      atLeast(
        'the other job, in parts of what it does alone',
        ratio(beside, [alone], 'bytesPerSecond', 'largest'),
        0.9,
      ),
    ],
    columns: ['bytesPerSecond', 'slowBytesPerSecond', 'cpuSecondsPerGib', 'loopDelayP99Ms'],
    notes: [
      `${formatBytes(bytes)} to ${SLOW_DESTINATIONS} destinations, one of which takes ${formatBytes(SLOW_BYTES_PER_SECOND)} a second (blkio throttle); meanwhile another client of the same process copies ${formatBytes(bytes)} ${TIMES} times, one device to another`,
    ],
  };
}

/** One. */
export const SLOW_DESTINATION: readonly Case[] = [
  {
    name: 'slow-destination',
    about: 'one slow destination among three, and another job beside it',
    run: slowDestination,
  },
];
