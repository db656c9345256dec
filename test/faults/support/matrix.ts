// The matrix: the same case at every logical block size, number of destinations and engine, each counted for itself. It makes
// the client, the devices and the copy of a case, and afterwards sees that the pool is whole and that the client still works.
import { readFile } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { type IoRegion, type JobOptions, type KcopydClient, KcopydError, type Outcome } from 'kcopyd';
import { afterAll, expect } from 'vitest';
import { ENGINES, type EngineName, expectBytes, SECTOR, test } from '../../support/kcopyd.js';
import type { Facility } from '../../support/machine.js';
import {
  COUNT,
  FROM_SECTOR,
  PIECE,
  type Place,
  type Rig,
  Rigs,
  reset,
  type Setting,
  SOURCE,
  TO_SECTOR,
  type Trial,
  Unavailable,
} from './rig.js';

/** Twelve points: {512, 4096} × {1, 3, 8 destinations} × {io_uring, threads}. */
export const MATRIX: readonly Setting[] = ([512, 4096] as const).flatMap((sectorSize) =>
  [1, 3, 8].flatMap((destinations) => ENGINES.map((engine) => ({ sectorSize, destinations, engine }))),
);

/** Where the fault of a case is: how its devices are made (once for all settings of a block size). */
export interface Fault {
  /** The source; one without a fault if left out. */
  readonly from?: (rig: Rig) => Promise<Place>;
  /** The one destination with a fault; all are without one if left out. It is in the middle of the others. */
  readonly to?: (rig: Rig) => Promise<Place>;
  /** Pages of the client's pool. Default: 256, which is 32 pieces. */
  readonly pages?: number;
  /** The settings at which it is tried. Default: all. */
  readonly settings?: readonly Setting[];
  /** What it needs besides devices. */
  readonly found?: Facility;
}

/** Declares a case for each setting. */
export function eachSetting(title: string, fault: Fault, body: (trial: Trial) => Promise<void>): void {
  rigs ??= openRigs();
  const its = rigs;
  const name = ({ sectorSize, destinations, engine }: Setting): string =>
    `${title}: blocks of ${sectorSize}, ${destinations} ${destinations === 1 ? 'destination' : 'destinations'}, ${engine}`;
  for (const setting of fault.settings ?? MATRIX) {
    test(name(setting), async ({ client, skip }) => {
      if (fault.found && !fault.found.available) skip(fault.found.reason);
      const trial = await trialOf(its.of(setting.sectorSize), setting, fault, client).catch((error: unknown) => {
        if (error instanceof Unavailable) return skip(error.message);
        throw error;
      });
      await body(trial as Trial).catch((error: unknown) => {
        if (error instanceof Unavailable) skip(error.message);
        throw error;
      });
      await expectWhole(trial as Trial);
    });
  }
}

let rigs: Rigs | undefined;

function openRigs(): Rigs {
  const opened = new Rigs();
  afterAll(() => opened.dispose());
  return opened;
}

type MakeClient = (options: { engine: EngineName; pages: number; subJobSectors: number }) => Promise<KcopydClient>;

async function trialOf(rig: Rig, setting: Setting, fault: Fault, makeClient: MakeClient): Promise<Trial> {
  const { engine, destinations } = setting;
  const from = await (fault.from?.(rig) ?? rig.source());
  const odd = Math.floor(destinations / 2);
  const to = [...(await rig.healthy(destinations))];
  if (fault.to) to[odd] = await fault.to(rig);
  await reset(to);
  const client = await makeClient({ engine, pages: fault.pages ?? 256, subJobSectors: PIECE });
  return { ...setting, rig, client, from, to, odd };
}

/** The region of the source. */
export function source({ from }: Trial): IoRegion {
  return { device: from.path, sector: FROM_SECTOR, count: COUNT };
}

/** The regions of the destinations. */
export function regions({ to }: Trial): IoRegion[] {
  return to.map(({ path }) => ({ device: path, sector: TO_SECTOR }));
}

/** How a copy ended: the error, if it rejected, and its outcome. */
export interface Copied {
  readonly outcome: Outcome;
  readonly error: KcopydError | undefined;
}

/** Waits for the end of a copy. One that was refused has no outcome, and is a failure of the case. */
export async function ended(copying: Promise<Outcome>): Promise<Copied> {
  try {
    return { outcome: await copying, error: undefined };
  } catch (error) {
    expect(error).toBeInstanceOf(KcopydError);
    const { outcome } = error as KcopydError;
    if (outcome === undefined) throw error;
    return { outcome, error: error as KcopydError };
  }
}

/** Copies the source's region to all destinations. */
export function copy(trial: Trial, options: JobOptions = {}): Promise<Copied> {
  return ended(trial.client.copy(source(trial), regions(trial), options));
}

/** Waits until a client has requests out and gets on no further: it waits for a device. */
export async function waits(client: KcopydClient): Promise<void> {
  const deadline = performance.now() + 10_000;
  let seen = '';
  for (let same = 0; same < 5; ) {
    expect(performance.now(), 'the client has come to wait for a device').toBeLessThan(deadline);
    await setTimeout(5);
    const { pages, subJobs } = client.stats;
    const now = `${pages.free} ${subJobs}`;
    same = now === seen && pages.free < pages.total ? same + 1 : 0;
    seen = now;
  }
}

/** P19: the pool is whole; and the client copies on, between devices without a fault. */
async function expectWhole({ client, rig }: Trial): Promise<void> {
  const { free, total } = client.stats.pages;
  expect(free, 'P19: the pool is whole after the job').toBe(total);
  const from = await rig.source();
  const to = await rig.once('afterwards', () => rig.workshop.loop({ bytes: 64 * SECTOR, sectorSize: rig.sectorSize }));
  const outcome = await client.copy({ device: from.path, count: 64 }, { device: to.path });
  expect(outcome).toMatchObject({ readErr: 0, writeErr: 0, sectors: 64, failures: [] });
  expectBytes(await readFile(to.file), SOURCE.subarray(0, 64 * SECTOR), 'what was copied afterwards');
}
