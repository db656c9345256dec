// Devices that do not answer for a while, or are slow: the job waits, others go on, an abort settles only when what is in flight
// has landed, and once the device answers all is as if nothing had been.
import { readFile } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { Device, KcopydClient } from 'kcopyd';
import { expect } from 'vitest';
import type { FaultyFile } from '../support/faulty.js';
import { expectBytes, SECTOR } from '../support/kcopyd.js';
import { copy, eachSetting, MATRIX, waits } from './support/matrix.js';
import { COUNT, type Place, type Rig, SOURCE, type Trial } from './support/rig.js';
import { expectTruth } from './support/truth.js';

interface Odd {
  readonly faulty: FaultyFile;
  readonly place: Place;
}

/** A device that can be made to answer no more. */
function stickable(rig: Rig, seed: 'source' | 'before', writeMs = 0): Promise<Odd> {
  return rig.once(`stickable ${seed} ${writeMs}`, async () => {
    const file = await rig.file(seed);
    const faulty = await rig.workshop.faulty({ kind: 'slow', file, writeMs });
    return { faulty, place: await rig.on(faulty, file) };
  });
}

const TO = { to: async (rig: Rig) => (await stickable(rig, 'before')).place };
const FROM = { from: async (rig: Rig) => (await stickable(rig, 'source')).place };
const SLOW = { to: async (rig: Rig) => (await stickable(rig, 'before', 20)).place };

const MEANWHILE = 20;

/** P4: other jobs of the same client, between other devices, are over in the meantime. */
async function othersGoOn({ client, rig }: Trial): Promise<void> {
  const { path, file } = await rig.once('meanwhile', () =>
    rig.workshop.loop({ bytes: MEANWHILE * 8 * SECTOR, sectorSize: rig.sectorSize }),
  );
  const { path: from } = await rig.once('meanwhile from', () =>
    rig.workshop.loop({ bytes: MEANWHILE * 8 * SECTOR, seed: 'source', sectorSize: rig.sectorSize }),
  );
  for (let job = 0; job < MEANWHILE; job++) {
    const sector = job * 8;
    await client.copy({ device: from, sector, count: 8 }, { device: path, sector });
  }
  expectBytes(await readFile(file), SOURCE.subarray(0, MEANWHILE * 8 * SECTOR), 'what was copied meanwhile');
}

eachSetting('P4 a destination is stuck, others go on, and all is well in the end', TO, async (trial) => {
  const { faulty } = await stickable(trial.rig, 'before');
  let isOver = false;
  faulty.stick();
  try {
    const copied = copy(trial).finally(() => (isOver = true));
    await waits(trial.client);
    await othersGoOn(trial);
    expect(isOver, 'the job waits for its device').toBe(false);
    faulty.resume();
    const { outcome } = await copied;
    expect(outcome).toMatchObject({ readErr: 0, writeErr: 0, sectors: COUNT, failures: [] });
    await expectTruth(outcome, trial.to);
  } finally {
    faulty.resume();
  }
});

/** Together more writes than the queue of a loop device holds, all of them for one. */
const REGIONS = 8;
const REGION = 192;
const ONE = { ...TO, settings: MATRIX.filter(({ destinations }) => destinations === 1) };

eachSetting('P4 all regions of a job are on one stuck device, others go on', ONE, async (trial) => {
  const { client, from, to, odd, rig } = trial;
  const { faulty, place } = await stickable(rig, 'before');
  const copier = await KcopydClient.create({ engine: trial.engine, pages: 256, subJobSectors: 8 });
  const parts = Array.from({ length: REGIONS }, (_, part) => ({ device: to[odd]!.path, sector: part * REGION }));
  faulty.stick();
  try {
    const copied = copier.copy({ device: from.path, count: REGION }, parts);
    await waits(copier);
    await othersGoOn({ ...trial, client: copier });
    faulty.resume();
    expect(await copied).toMatchObject({ readErr: 0, writeErr: 0, sectors: REGION, failures: [] });
  } finally {
    faulty.resume();
    await copier.close();
  }
  const expected = Buffer.concat(parts.map(() => SOURCE.subarray(0, REGION * SECTOR)));
  expectBytes((await readFile(place.file!)).subarray(0, expected.length), expected, 'every region');
  expect(client.stats.jobs).toBe(0);
});

const LARGE = 16 * 1024 * SECTOR;
const SMALL_JOBS = 500;
const ON_THE_RING = { settings: ONE.settings.filter(({ engine }) => engine === 'io_uring') };

/** How long small jobs take, one after the other, between devices without a fault. */
async function smallJobsMs(copier: KcopydClient, rig: Rig): Promise<number> {
  const [from, to] = await Promise.all([
    Device.open((await rig.source()).path),
    Device.open((await rig.healthy(1))[0]!.path, { access: 'write' }),
  ]);
  const beganMs = performance.now();
  for (let job = 0; job < SMALL_JOBS; job++) await copier.copy({ device: from, count: 8 }, { device: to });
  const tookMs = performance.now() - beganMs;
  await Promise.all([from.close(), to.close()]);
  return tookMs;
}

// The ring waits for several answers at once while large requests are under way; here they do not come.
eachSetting(
  'P4 small jobs beside a large one on a stuck device keep their pace',
  ON_THE_RING,
  async ({ rig, engine }) => {
    const from = await rig.once('large source', () =>
      rig.workshop.loop({ bytes: LARGE, seed: 'source', sectorSize: rig.sectorSize }),
    );
    const { faulty, path } = await rig.once('large stickable', async () => {
      const file = await rig.workshop.file({ bytes: LARGE });
      const server = await rig.workshop.faulty({ kind: 'slow', file });
      const device = await rig.workshop.attach(server.path, { sectorSize: rig.sectorSize });
      return { faulty: server, path: device.path };
    });
    const copier = await KcopydClient.create({ engine });
    try {
      const aloneMs = await smallJobsMs(copier, rig);
      faulty.stick();
      const copied = copier.copy({ device: from.path }, { device: path });
      await waits(copier);
      const besideMs = await smallJobsMs(copier, rig);
      faulty.resume();
      expect(await copied).toMatchObject({ readErr: 0, writeErr: 0 });
      // A millisecond for each of their answers would be ten times as much.
      expect(besideMs).toBeLessThan(4 * aloneMs);
    } finally {
      faulty.resume();
      await copier.close();
    }
  },
);

eachSetting('P4 the source is stuck, others go on, and all is well in the end', FROM, async (trial) => {
  const { faulty } = await stickable(trial.rig, 'source');
  faulty.stick();
  try {
    const copied = copy(trial, { flush: true });
    await waits(trial.client);
    await othersGoOn(trial);
    faulty.resume();
    const { outcome } = await copied;
    expect(outcome).toMatchObject({ readErr: 0, writeErr: 0, sectors: COUNT, failures: [] });
    await expectTruth(outcome, trial.to);
  } finally {
    faulty.resume();
  }
});

eachSetting('P27 an abort settles when what a stuck destination has in flight has landed', TO, async (trial) => {
  const { faulty } = await stickable(trial.rig, 'before');
  const controller = new AbortController();
  let isOver = false;
  faulty.stick();
  try {
    const copied = copy(trial, { signal: controller.signal }).finally(() => (isOver = true));
    await waits(trial.client);
    controller.abort();
    await setTimeout(50);
    expect(isOver, 'memory in flight is not given back').toBe(false);
    const { free, total } = trial.client.stats.pages;
    expect(free).toBeLessThan(total);
    faulty.resume();
    const { error, outcome } = await copied;
    expect(error).toMatchObject({ name: 'AbortError', code: 'ABORT_ERR' });
    expect(outcome.sectors).toBeLessThan(COUNT);
    // Nothing lands after the completion.
    const file = trial.to[trial.odd]!.file!;
    const bytes = await readFile(file);
    await expectTruth(outcome, trial.to, { aborted: true });
    await setTimeout(20);
    expectBytes(await readFile(file), bytes, 'the destination a little later');
  } finally {
    faulty.resume();
  }
});

eachSetting('P4 a slow destination holds neither the bytes of the others up nor other jobs', SLOW, async (trial) => {
  let isOver = false;
  const copied = copy(trial).finally(() => (isOver = true));
  await othersGoOn(trial);
  expect(isOver, 'small jobs are over before the slow one').toBe(false);
  const { outcome } = await copied;
  expect(outcome).toMatchObject({ readErr: 0, writeErr: 0, sectors: COUNT });
  await expectTruth(outcome, trial.to);
});
