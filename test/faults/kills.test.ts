// SIGKILL at random moments: natively, by the torture program, which drives the core alone; and through Node, here. Nothing may
// change outside the regions, nothing may have been reported that is not there, and whoever comes next is refused until the last
// request of the dead process has landed.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Device, type KcopydError } from 'kcopyd';
import { expect } from 'vitest';
import { type EngineName, MIB, onEachEngine, SECTOR, test } from '../support/kcopyd.js';
import { randomBytes, randomNumbers } from '../support/random.js';
import { needsTorture, seedOf, times, torture, worked } from './support/torture.js';

const KILLS = times('KCOPYD_TEST_KILLS', 1_000);
const NODE_KILLS = times('KCOPYD_TEST_KILLS_NODE', 100);
const TIMEOUT_MS = 3_600_000;

interface Counted {
  readonly kills: number;
  readonly cleanRuns: number;
  readonly jobsReported: number;
  readonly landedUnreported: number;
  readonly refusedAfterDeath: number;
  readonly longestRefusalMs: number;
}

/** What the kills are shared among. On slow devices I/O is in flight for certain, and takes longer to land. */
const SHARES = [
  { what: 'two disks and a file', kinds: ['512', '4096', 'file'], share: 0.3 },
  { what: 'a disk', kinds: ['512'], share: 0.08 },
  { what: 'a file', kinds: ['file'], share: 0.08 },
] as const;
const SLOW_SHARE = 0.04;
const SLOW_MS = 40;

onEachEngine((engine) => {
  for (const { what, kinds, share } of SHARES) {
    test(`P28 processes that copy to ${what} are killed`, { timeout: TIMEOUT_MS }, async ({ workshop, skip }) => {
      needsTorture(skip);
      const { source, targets } = await worked(workshop, kinds);
      const kills = Math.ceil(KILLS * share);
      const args = ['kills', kills, seedOf(engine), engine, source, ...targets];
      const counted = await torture<Counted>(args, TIMEOUT_MS);
      console.log(`${engine}, ${what}: ${JSON.stringify(counted)}`);
      expect(counted.kills).toBe(kills);
      expect(counted.jobsReported).toBeGreaterThan(kills);
    });
  }

  test('P28 processes that copy to a slow disk are killed', { timeout: TIMEOUT_MS }, async ({ workshop, skip }) => {
    needsTorture(skip);
    const { source } = await worked(workshop, []);
    const file = await workshop.file({ bytes: MIB, seed: 'before slow' });
    const slow = await workshop.faulty({ kind: 'slow', file, writeMs: SLOW_MS });
    const { path } = await workshop.attach(slow.path);
    const kills = Math.ceil(KILLS * SLOW_SHARE);
    const counted = await torture<Counted>(
      ['kills', kills, seedOf(engine), engine, source, `${path}=${file}`],
      TIMEOUT_MS,
    );
    console.log(`${engine}, slow: ${JSON.stringify(counted)}`);
    expect(counted.kills).toBe(kills);
    // Requests really are in flight, and are waited for.
    expect(counted.landedUnreported).toBeGreaterThan(0);
    if (engine === 'io_uring') expect(counted.refusedAfterDeath).toBeGreaterThan(0);
  });
});

/** A job of the process that is killed: each has a slot of its own in the destination. */
interface Job {
  readonly from: number;
  readonly to: number;
  readonly count: number;
}

const SLOT = 128;
const SLOTS = (4 * MIB) / SECTOR / SLOT - 2;
const DEPTH = 8;

/** The jobs of a run, in the order in which they are submitted. */
function jobsOf(run: string): Job[] {
  const random = randomNumbers(run);
  const below = (limit: number): number => Math.floor(random() * limit);
  return Array.from({ length: SLOTS }, (_, slot) => {
    const count = 8 * (1 + below(SLOT / 8));
    const to = (1 + slot) * SLOT + 8 * below((SLOT - count) / 8 + 1);
    return { from: 8 * below((8 * MIB) / SECTOR / 8 - SLOT / 8), to, count };
  });
}

/** Copies, and says the number of each job after its completion, in one write each. */
const SUBJECT = `
  import { writeSync } from 'node:fs';
  import { Device, KcopydClient } from 'kcopyd';
  const { engine, source, destination, jobs, depth } = JSON.parse(process.argv[1]);
  const client = await KcopydClient.create({ engine, pages: 64, subJobSectors: 32 });
  const from = await Device.open(source);
  const to = await Device.open(destination, { access: 'write' });
  let next = 0;
  const work = async () => {
    while (next < jobs.length) {
      const number = next++;
      const job = jobs[number];
      await client.copy({ device: from, sector: job.from, count: job.count }, { device: to, sector: job.to });
      writeSync(1, number + '\\n');
    }
  };
  writeSync(1, 'ready\\n');
  await Promise.all(Array.from({ length: depth }, work));`;

function subject(engine: EngineName, source: string, destination: string, jobs: readonly Job[]): ChildProcess {
  const args = JSON.stringify({ engine, source, destination, jobs, depth: DEPTH });
  const cwd = fileURLToPath(new URL('../..', import.meta.url));
  return spawn(process.execPath, ['--input-type=module', '--eval', SUBJECT, args], {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** Kills a subject after some of its jobs; what it has said. */
async function killed(child: ChildProcess, after: number, delayMs: number): Promise<string> {
  let said = '';
  const exited = once(child, 'exit');
  const closed = once(child, 'close');
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    said += text;
    // As soon as there are as many lines; the first one says that all is set up.
    if (said.split('\n').length > after + 1) setTimeout(() => child.kill('SIGKILL'), delayMs);
  });
  const [code, signal] = await exited;
  await closed;
  expect(code === 0 || signal === 'SIGKILL', `it ended with ${code ?? signal}`).toBe(true);
  return said;
}

/** P28: opens the destination as soon as that is not refused any more; how often it was. */
async function refusals(path: string): Promise<number> {
  for (let count = 0; ; count++) {
    try {
      await (await Device.open(path, { access: 'write' })).close();
      return count;
    } catch (error) {
      expect((error as KcopydError).code).toBe('EBUSY');
    }
  }
}

/** Compares every sector with what may be there, and returns what is there. */
function settle(run: string, held: Buffer, found: Buffer, source: Buffer, reported: ReadonlySet<number>): void {
  const expected = Buffer.from(held);
  for (const [number, { from, to, count }] of jobsOf(run).entries()) {
    if (number >= reported.size + DEPTH) break;
    for (let sector = 0; sector < count; sector++) {
      const fresh = source.subarray((from + sector) * SECTOR, (from + sector + 1) * SECTOR);
      const place = (to + sector) * SECTOR;
      if (reported.has(number) || found.subarray(place, place + SECTOR).equals(fresh)) fresh.copy(expected, place);
    }
  }
  const wrong = found.equals(expected) ? -1 : found.findIndex((byte, index) => byte !== expected[index]);
  expect(wrong < 0 ? 'nothing' : `sector ${Math.floor(wrong / SECTOR)}`, `what is wrong after run ${run}`).toBe(
    'nothing',
  );
}

onEachEngine((engine) => {
  test('P28 Node processes that copy are killed', { timeout: TIMEOUT_MS }, async ({ workshop }) => {
    const source = await workshop.loop({ bytes: 8 * MIB, seed: 'source' });
    const disk = await workshop.loop({ bytes: 4 * MIB, seed: 'before', sectorSize: 4096 });
    const bytes = randomBytes('source', 8 * MIB);
    const seed = seedOf(engine);
    const random = randomNumbers(`${seed} ${engine}`);
    let held = readFileSync(disk.file);
    let [kills, clean, refused, jobs] = [0, 0, 0, 0];
    while (kills < NODE_KILLS / 2) {
      const run = `${seed} ${engine} ${kills} ${clean}`;
      const child = subject(engine, source.path, disk.path, jobsOf(run));
      const said = await killed(child, Math.floor(random() * SLOTS), random() * 2);
      const reported = new Set(said.split('\n').slice(1, -1).map(Number));
      if (child.signalCode === 'SIGKILL') kills++;
      else clean++;
      jobs += reported.size;
      refused += (await refusals(disk.path)) > 0 ? 1 : 0;
      const found = readFileSync(disk.file);
      settle(run, held, found, bytes, reported);
      held = found;
      expect(clean, 'they end before they can be killed').toBeLessThan(20 + 4 * kills);
    }
    console.log(`Node, ${engine}: ${JSON.stringify({ kills, clean, jobs, refused })}`);
    expect(jobs).toBeGreaterThan(kills);
  });
});
