// Several faults at once, and many jobs at once of which few meet one: each fault is told where it is and nowhere else.
import { Device, IGNORE_ERROR } from 'kcopyd';
import { expect } from 'vitest';
import { completion, SECTOR } from '../support/kcopyd.js';
import { copy, eachSetting, ended } from './support/matrix.js';
import { COUNT, DEVICE_BYTES, FROM_SECTOR, PIECE, type Place, type Rig, TO_SECTOR } from './support/rig.js';
import { expectTruth } from './support/truth.js';

/** Offsets into the regions. The last read and the last write are of the same page. */
const READS = [96, 512, 800];
const WRITES = [104, 640, 800];
const PAGE = 8;

function badAt(sector: number): { offset: number; length: number } {
  return { offset: sector * SECTOR, length: PAGE * SECTOR };
}

function badSource(rig: Rig): Promise<Place> {
  return rig.once('bad source', async () => {
    const file = await rig.file('source');
    const bad = READS.map((offset) => badAt(FROM_SECTOR + offset));
    const faulty = await rig.workshop.faulty({ kind: 'bad-reads', file, bytes: DEVICE_BYTES, bad });
    return rig.on(faulty, file, { readOnly: true });
  });
}

/** Writes fail in one place. */
function badDestination(rig: Rig, offset: number): Promise<Place> {
  return rig.once(`bad destination ${offset}`, async () => {
    const file = await rig.file('before');
    const faulty = await rig.workshop.faulty({ kind: 'bad-writes', file, bad: badAt(TO_SECTOR + offset) });
    return rig.on(faulty, file);
  });
}

const read = (offset: number): object => {
  return { op: 'read', destination: null, sector: FROM_SECTOR + offset, count: PAGE, code: 'EIO', errno: 5 };
};
const write = (destination: number, offset: number): object => {
  return { op: 'write', destination, sector: TO_SECTOR + offset, count: PAGE, code: 'EIO', errno: 5 };
};

for (const offset of WRITES) {
  const fault = { from: badSource, to: (rig: Rig) => badDestination(rig, offset) };
  eachSetting(`P14 three bad places of the source and one of a destination, at ${offset}`, fault, async (trial) => {
    const { outcome } = await copy(trial, { ignoreErrors: true });
    expect(outcome).toMatchObject({ readErr: 5, writeErr: 2 ** trial.odd });
    expect(outcome.failures).toEqual([...READS.map(read), write(trial.odd, offset)]);
    await expectTruth(outcome, trial.to, { ignoreErrors: true });
  });
}

const ONE_BAD = { to: (rig: Rig) => badDestination(rig, 640) };

/** Jobs of a quarter of a piece each, which together are the region. */
const JOB = PIECE / 4;
const JOBS = COUNT / JOB;

eachSetting(
  'P17 of many jobs at once that touch each other only the one with the bad page fails',
  ONE_BAD,
  async (trial) => {
    // All of them share the devices: else each would hold them against the others.
    const devices = await Promise.all(trial.to.map(({ path }) => Device.open(path, { access: 'write' })));
    const from = await Device.open(trial.from.path);
    try {
      const jobs = Array.from({ length: JOBS }, (_, job) => {
        const sector = TO_SECTOR + job * JOB;
        const source = { device: from, sector: FROM_SECTOR + job * JOB, count: JOB };
        return ended(
          trial.client.copy(
            source,
            devices.map((device) => ({ device, sector })),
            { ignoreErrors: true },
          ),
        );
      });
      const outcomes = (await Promise.all(jobs)).map(({ outcome }) => outcome);
      const failures = outcomes.flatMap((outcome) => outcome.failures);
      expect(failures).toEqual([write(trial.odd, 640)]);
      expect(outcomes.filter(({ writeErr }) => writeErr !== 0)).toHaveLength(1);
      const bytes = outcomes.map((outcome) => outcome.destinations.map(({ sectors, ok }) => (ok ? sectors : -1)));
      expect(bytes.flat().filter((sectors) => sectors === JOB)).toHaveLength(JOBS * trial.to.length - 1);
      await expectTruth(
        {
          ...outcomes[0]!,
          failures,
          sectors: 640,
          bytes: 640 * SECTOR,
          writeErr: 2 ** trial.odd,
          destinations: trial.to.map((_, index) => ({
            sectors: index === trial.odd ? 640 : COUNT,
            ok: index !== trial.odd,
          })),
        },
        trial.to,
        { ignoreErrors: true },
      );
    } finally {
      await Promise.all([from, ...devices].map((device) => device.close()));
    }
  },
);

eachSetting('P12 the callback is told the bit of the destination with the bad page, once', ONE_BAD, async (trial) => {
  const devices = await Promise.all(trial.to.map(({ path }) => Device.open(path, { access: 'write' })));
  const from = await Device.open(trial.from.path);
  try {
    const { notify, called } = completion();
    let calls = 0;
    const counted = (...result: Parameters<typeof notify>): void => {
      calls++;
      notify(...result);
    };
    const to = devices.map((device) => ({ device, sector: TO_SECTOR }));
    trial.client.submitCopy({ device: from, sector: FROM_SECTOR, count: COUNT }, to, IGNORE_ERROR, counted, 'mine');
    expect(await called).toEqual([0, 2 ** trial.odd, 'mine']);
    await trial.client.delivered();
    expect(calls).toBe(1);
  } finally {
    await Promise.all([from, ...devices].map((device) => device.close()));
  }
});
