// The demo: the main job on the most real thing that this machine allows. A file system with real files on a block device is
// copied through the public face to three others, then to one that fails, then to one that is too small; after each, tools
// that are not ours say whether it is true. It knows no more of kcopyd than any caller does.
import { KcopydClient, KcopydError, type Outcome, support } from 'kcopyd';
import { errnoText, formatBytes, formatDuration, formatRate, formatSectors } from '../../cli/format.js';
import { Workshop } from '../../test/support/workshop.js';
import { Checks } from './checks.js';
import { type Disk, type Disks, makeDisks } from './disks.js';

const SECTOR_BYTES = 512;
/** The image, its three copies, and what the later runs write. */
const ROOM_BYTES = 1 << 30;

/** Runs it, in the checkout at `root`; the exit code. Whatever happens, nothing of it is left. */
export async function demo(root: string): Promise<number> {
  const workshop = new Workshop({ roomBytes: ROOM_BYTES });
  // A workshop clears itself away when the process ends, so ending it is enough.
  process.once('SIGINT', () => process.exit(130)).once('SIGTERM', () => process.exit(143));
  const checks = new Checks();
  try {
    say(`kcopyd demo on Node ${process.version}, kernel ${support().kernel}, in ${workshop.directory}`);
    const disks = await makeDisks(workshop, root, say);
    const client = await KcopydClient.create();
    try {
      const { kind, reason } = client.stats.engine;
      say(`engine ${kind}: ${reason}`);
      await copyToThree(client, disks, checks);
      await copyToFaulty(client, disks, checks);
      await copyToTooSmall(client, disks, checks);
    } finally {
      await client.close();
    }
  } catch (error) {
    checks.failed('the demo came to its end', error);
  } finally {
    console.log();
    await workshop.dispose().then(
      () => checks.that('everything was cleared away', true),
      (error: unknown) => checks.failed('everything was cleared away', error),
    );
  }
  return checks.summary();
}

/** The main job: one source, three destinations, flushed; then everybody else's word for it. */
async function copyToThree(client: KcopydClient, { source, copies, image }: Disks, checks: Checks): Promise<void> {
  title(`1. ${source.name} to ${copies.length} destinations`);
  const outcome = await copy(client, source, copies, { flush: true });
  checks.that(
    'every destination is complete',
    outcome.destinations.every(({ ok }) => ok),
  );
  for (const disk of copies) {
    await checks.identical(source, disk, image.bytes);
    if (image.ext4) await checks.fileSystem(disk);
    if (image.ext4) await checks.tree(disk, image);
  }
}

/** One destination fails in the middle: it is named, with the place; the others are not hurt. */
async function copyToFaulty(client: KcopydClient, { source, faulty }: Disks, checks: Checks): Promise<void> {
  title('2. one destination fails');
  if (typeof faulty === 'string') {
    say(`left out: ${faulty}`);
    return;
  }
  const [first, last] = faulty.beside;
  const count = (faulty.failsAt * 2) / SECTOR_BYTES;
  const outcome = await copy(client, source, [first, faulty, last], { count, ignoreErrors: true });
  const [one, two, three] = outcome.destinations;
  checks.that(`the one that failed is named: writeErr is 0b010`, outcome.writeErr === 0b010 && outcome.readErr === 0);
  checks.that('the other two are complete', one?.ok === true && three?.ok === true && two?.ok === false);
  const held = (two?.sectors ?? 0) * SECTOR_BYTES;
  checks.that(`it holds what it says, ${formatBytes(held)}, and not all`, held > 0 && held <= faulty.failsAt);
  const right = outcome.failures.every(
    ({ op, destination, code }) => op === 'write' && destination === 1 && code === faulty.code,
  );
  checks.that(`every failure listed is a write of it, ${faulty.code}`, right && outcome.failures.length > 0);
  for (const disk of [first, last]) await checks.identical(source, disk, count * SECTOR_BYTES);
  await checks.identical(source, faulty, held);
}

/** A destination that is too small is refused before anything is written anywhere. */
async function copyToTooSmall(client: KcopydClient, { source, refused, copies }: Disks, checks: Checks): Promise<void> {
  title(`3. ${refused.why}`);
  const [other] = copies;
  if (!other) throw new Error('there are three copies');
  const before = client.stats.bytes;
  const error = await refusal(client, source, [other, refused]);
  say(`refused: ${error ? `${error.message} [${error.code}]` : 'it was not'}`);
  checks.that(`it is refused with ${refused.code}`, error?.code === refused.code);
  checks.that('nothing was copied to the other one', client.stats.bytes === before);
}

interface CopyOptions {
  readonly count?: number;
  readonly flush?: boolean;
  readonly ignoreErrors?: boolean;
}

/** Copies, shows what came of it, and hands back the outcome whether the job succeeded or not. */
async function copy(client: KcopydClient, from: Disk, to: readonly Disk[], options: CopyOptions): Promise<Outcome> {
  const { count, ...job } = options;
  const before = client.stats.bytes;
  const outcome = await run();
  for (const [index, { sectors, ok }] of outcome.destinations.entries()) {
    const failed = outcome.failures.find((failure) => failure.destination === index);
    const why = failed ? `: ${failed.op} at sector ${failed.sector}: ${errnoText(failed.errno)} (${failed.code})` : '';
    say(`  ${to[index]?.name}: ${ok ? 'complete' : 'incomplete'}, holds ${formatSectors(sectors)}${why}`);
  }
  const bytes = client.stats.bytes - before;
  const rate = formatRate((bytes * 1000) / Math.max(outcome.durationMs, 1));
  say(`  ${formatBytes(bytes)} read once for all of them, in ${formatDuration(outcome.durationMs)}: ${rate}`);
  return outcome;

  async function run(): Promise<Outcome> {
    const region = { device: from.path, ...(count !== undefined && { count }) };
    try {
      const destinations = to.map(({ path }) => ({ device: path }));
      return await client.copy(region, destinations, job);
    } catch (error) {
      if (error instanceof KcopydError && error.outcome) return error.outcome;
      throw error;
    }
  }
}

async function refusal(client: KcopydClient, from: Disk, to: readonly Disk[]): Promise<KcopydError | undefined> {
  try {
    await client.copy(
      { device: from.path },
      to.map(({ path }) => ({ device: path })),
    );
    return undefined;
  } catch (error) {
    if (error instanceof KcopydError && !error.outcome) return error;
    throw error;
  }
}

function say(line: string): void {
  console.log(line);
}

function title(line: string): void {
  console.log(`\n${line}`);
}
