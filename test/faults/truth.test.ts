// The judge of all cases, judged: an outcome that is the truth passes, and every lie of a list does not.
import { open } from 'node:fs/promises';
import type { Outcome } from 'kcopyd';
import { expect } from 'vitest';
import { SECTOR } from '../support/kcopyd.js';
import { test } from '../support/test.js';
import type { Workshop } from '../support/workshop.js';
import { COUNT, DEVICE_BYTES, FROM_SECTOR, type Place, SOURCE, TO_SECTOR } from './support/rig.js';
import { expectTruth } from './support/truth.js';

const BAD = { sector: TO_SECTOR + 400, count: 8 };

const TRUTH: Outcome = {
  sectors: 400,
  bytes: 400 * SECTOR,
  readErr: 0,
  writeErr: 0b10,
  failures: [{ op: 'write', destination: 1, ...BAD, code: 'EIO', errno: 5 }],
  failuresOmitted: 0,
  destinations: [
    { sectors: COUNT, ok: true },
    { sectors: 400, ok: false },
  ],
  durationMs: 1,
};

/** Two destinations as the truth says: all of the region, and all but the bad page. */
async function places(workshop: Workshop): Promise<Place[]> {
  const made = [];
  for (const parts of [
    [[0, COUNT]],
    [
      [0, 400],
      [408, COUNT],
    ],
  ] as [number, number][][]) {
    const path = await workshop.file({ bytes: DEVICE_BYTES, seed: 'before' });
    const handle = await open(path, 'r+');
    for (const [first, end] of parts) {
      const bytes = SOURCE.subarray((FROM_SECTOR + first) * SECTOR, (FROM_SECTOR + end) * SECTOR);
      await handle.write(bytes, 0, bytes.length, (TO_SECTOR + first) * SECTOR);
    }
    await handle.close();
    made.push({ path, file: path });
  }
  return made;
}

async function damage({ path }: Place, sector: number): Promise<void> {
  const handle = await open(path, 'r+');
  await handle.write(Buffer.from('?'), 0, 1, sector * SECTOR + 7);
  await handle.close();
}

test('the truth passes, with errors ignored or not', async ({ workshop }) => {
  const to = await places(workshop);
  await expectTruth(TRUTH, to, { ignoreErrors: true });
  await expectTruth(TRUTH, to);
});

const [failure] = TRUTH.failures as [Outcome['failures'][number]];
test.for<[string, Partial<Outcome>]>([
  ['the wrong bit', { writeErr: 0b01 }],
  ['no bit', { writeErr: 0 }],
  ['a read error that was none', { readErr: 5 }],
  ['a failure left out', { failures: [], writeErr: 0 }],
  ['a failure elsewhere', { failures: [{ ...failure, sector: BAD.sector + 8 }] }],
  ['a failure that is too short', { failures: [{ ...failure, count: 4 }] }],
  ['a failure of another destination', { failures: [{ ...failure, destination: 0 }], writeErr: 0b01 }],
  ['a prefix that is too long', { destinations: [TRUTH.destinations[0]!, { sectors: 401, ok: false }] }],
  ['ok of what failed', { destinations: [TRUTH.destinations[0]!, { sectors: COUNT, ok: true }] }],
  ['a common prefix that is too long', { sectors: 408, bytes: 408 * SECTOR }],
  ['a count of bytes that is not that of the sectors', { bytes: 1 }],
  ['failures that are not told', { failuresOmitted: 1 }],
  [
    'success',
    {
      sectors: COUNT,
      bytes: COUNT * SECTOR,
      writeErr: 0,
      failures: [],
      destinations: [true, true].map((ok) => ({ ok, sectors: COUNT })),
    },
  ],
])('a lie is found: %s', async ([, lie], { workshop }) => {
  const to = await places(workshop);
  await expect(expectTruth({ ...TRUTH, ...lie }, to, { ignoreErrors: true })).rejects.toThrow();
});

test.for([
  ['before the region', 0, TO_SECTOR - 1],
  ['behind the region', 1, TO_SECTOR + COUNT],
  ['in the prefix', 0, TO_SECTOR],
  ['behind the prefix', 1, TO_SECTOR + COUNT - 1],
  ['where the write failed', 1, BAD.sector],
] as const)('a wrong byte is found: %s', async ([, index, sector], { workshop }) => {
  const to = await places(workshop);
  await damage(to[index]!, sector);
  await expect(expectTruth(TRUTH, to)).rejects.toThrow(/P6|P8|P17/);
});
