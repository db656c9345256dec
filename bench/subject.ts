// The process that is measured: it copies as it is told by its one argument, through the public face or through fs.promises,
// measures itself, and prints that as JSON. It knows no peers and no rounds.
import { constants, writeFileSync } from 'node:fs';
import { copyFile, type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ClientOptions, type ClientStats, Device, KcopydClient } from 'kcopyd';
import { place } from './places.js';
import type { BesideTask, CopyFileTask, CopyTask, SmallTask, Task, Told, ZeroTask } from './task.js';

const PAGE_BYTES = 4096;
const SECTOR_BYTES = 512;
/** What the histogram cannot see, and counts as delay all the same. */
const RESOLUTION_MS = 1;
const SLOW_BEGINS_MS = 100;

/** Takes the figures from the moment it is made. */
class Watch {
  readonly #delay: IntervalHistogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  readonly #cpu = process.cpuUsage();
  readonly #begin = performance.now();
  readonly residentBytesAfterEach: number[] = [];

  constructor() {
    this.#delay.enable();
  }

  /** Remembers how much memory the process has now. */
  look(): void {
    this.residentBytesAfterEach.push(process.memoryUsage.rss());
  }

  /** Everything since it was made. */
  told(bytes: number, stats?: ClientStats, before?: ClientStats): Told {
    const seconds = (performance.now() - this.#begin) / 1000;
    const cpu = process.cpuUsage(this.#cpu);
    this.#delay.disable();
    return {
      seconds,
      cpuSeconds: (cpu.user + cpu.system) / 1e6,
      startUpSeconds: this.#begin / 1000,
      startUpCpuSeconds: (this.#cpu.user + this.#cpu.system) / 1e6,
      residentBytes: process.resourceUsage().maxRSS * 1024,
      residentBytesAfterEach: this.residentBytesAfterEach,
      loopDelayP99Ms: Math.max(0, this.#delay.percentile(99) / 1e6 - RESOLUTION_MS),
      bytes,
      ...(stats && before && { submissions: stats.submissions - before.submissions, engine: stats.engine }),
      ...(stats && { poolBytes: stats.pages.total * PAGE_BYTES }),
    };
  }
}

interface Devices {
  readonly client: KcopydClient;
  readonly from: Device;
  readonly to: readonly Device[];
}

async function withClient<T>(
  { source, destinations, client: options }: Pick<Task, 'source' | 'destinations' | 'client'>,
  body: (devices: Devices) => Promise<T>,
  create = false,
): Promise<T> {
  const client = await KcopydClient.create(options as ClientOptions);
  const from = await Device.open(source);
  const to: Device[] = [];
  for (const path of destinations) to.push(await Device.open(path, { access: 'write', create }));
  const told = await body({ client, from, to });
  await Promise.all([from, ...to].map((device) => device.close()));
  await client.close();
  return told;
}

function copyAll({ client, from, to }: Devices): Promise<unknown> {
  return client.copy(
    { device: from },
    to.map((device) => ({ device })),
    { flush: true },
  );
}

function copyDevices(task: CopyTask): Promise<Told> {
  const body = async (devices: Devices): Promise<Told> => {
    const { client, from } = devices;
    const before = client.stats;
    const watch = new Watch();
    for (let time = 0; time < task.times; time++) {
      await copyAll(devices);
      watch.look();
    }
    return watch.told(task.times * from.bytes, client.stats, before);
  };
  return withClient(task, body, task.create);
}

async function copyAsNode({ source, destinations: [to = ''], bytes }: CopyFileTask): Promise<Told> {
  const watch = new Watch();
  await copyFile(source, to);
  const handle = await open(to, 'r+');
  await handle.datasync();
  await handle.close();
  return watch.told(bytes);
}

function zeroDevices(task: ZeroTask): Promise<Told> {
  return withClient(task, async ({ client, to }) => {
    const before = client.stats;
    const watch = new Watch();
    const regions = to.map((device) => ({ device, count: task.bytes / SECTOR_BYTES }));
    await client.zero(regions, { flush: true });
    const told = watch.told(task.bytes, client.stats, before);
    return { ...told, writtenZeroBytes: client.stats.zero.writtenBytes };
  });
}

/** The slow job begins first and ends last: the other one has it beside it all the time, or this says so. */
function copyBeside(task: BesideTask): Promise<Told> {
  writeFileSync(join(task.group, 'cgroup.procs'), String(process.pid));
  const slowly = async (): Promise<{ bytes: number; seconds: number } | undefined> => {
    if (!task.slow) return undefined;
    return withClient({ ...task.slow, client: {} }, async (devices) => {
      const begin = performance.now();
      await copyAll(devices);
      return { bytes: devices.from.bytes, seconds: (performance.now() - begin) / 1000 };
    });
  };
  return withClient(task, async (devices) => {
    let isSlowOver = false;
    const slow = slowly().finally(() => {
      isSlowOver = true;
    });
    // Until that has opened its devices and is on its way.
    await sleep(SLOW_BEGINS_MS);
    const watch = new Watch();
    for (let time = 0; time < task.times; time++) await copyAll(devices);
    const told = watch.told(task.times * devices.from.bytes);
    if (task.slow && isSlowOver) throw new Error('the slow job was over too soon');
    const beside = await slow;
    return { ...told, ...(beside && { slow: beside }) };
  });
}

function smallJobs(task: SmallTask): Promise<Told> {
  if (task.way === 'fs.promises') return fsJobs(task, 0);
  if (task.way === 'fs.promises direct') return fsJobs(task, constants.O_DIRECT);
  return withClient(task, async (devices) => {
    const before = devices.client.stats;
    const { client, from, to } = devices;
    const count = task.jobBytes / SECTOR_BYTES;
    const places = placesOf(task);
    const sector = (job: number): number => place(job, places) * count;
    const watch = new Watch();
    if (task.way === 'copy') {
      await atDepth(task, (job) => {
        const at = sector(job);
        return client.copy({ device: from, sector: at, count }, { device: to[0]!, sector: at });
      });
    } else {
      await submitAll(devices, task, count, sector);
    }
    // A job of no bytes: all that is left to do is the flush.
    await client.copy({ device: from, count: 0 }, { device: to[0]! }, { flush: true });
    return watch.told(task.jobs * task.jobBytes, client.stats, before);
  });
}

/** How many jobs are the whole device. */
function placesOf({ bytes, jobBytes }: SmallTask): number {
  return jobBytes === 0 ? 1 : bytes / jobBytes;
}

/** So many loops, each of which awaits one job after the other. */
async function atDepth(
  { jobs, depth }: SmallTask,
  one: (job: number, slot: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const loop = async (_: unknown, slot: number): Promise<void> => {
    while (next < jobs) await one(next++, slot);
  };
  await Promise.all(Array.from({ length: depth }, loop));
}

/** Jobs in the kernel's shape: each completion submits the next. */
function submitAll(
  { client, from, to }: Devices,
  { jobs, depth }: SmallTask,
  count: number,
  place: (job: number) => number,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let next = 0;
    let over = 0;
    const submit = (): void => {
      const sector = place(next++);
      client.submitCopy({ device: from, sector, count }, [{ device: to[0]!, sector }], 0, notify);
    };
    const notify = (readErr: number, writeErr: number): void => {
      if (readErr !== 0 || writeErr !== 0) reject(new Error(`a job failed: ${readErr}, ${writeErr}`));
      if (next < jobs) submit();
      if (++over === jobs) resolve();
    };
    while (next < Math.min(jobs, depth)) submit();
  });
}

async function fsJobs(task: SmallTask, flags: number): Promise<Told> {
  const from = await open(task.source, constants.O_RDONLY | flags);
  const to = await open(task.destinations[0]!, constants.O_WRONLY | flags);
  const { jobBytes } = task;
  const memory = await directMemory(from, task.depth * jobBytes);
  const places = placesOf(task);
  const watch = new Watch();
  await atDepth(task, async (job, slot) => {
    const offset = place(job, places) * jobBytes;
    const read = await from.read(memory, slot * jobBytes, jobBytes, offset);
    const written = await to.write(memory, slot * jobBytes, jobBytes, offset);
    if (read.bytesRead !== jobBytes || written.bytesWritten !== jobBytes) throw new Error('a job came short');
  });
  await to.datasync();
  const told = watch.told(task.jobs * jobBytes);
  await Promise.all([from.close(), to.close()]);
  return told;
}

/** Memory that direct I/O takes. JavaScript does not tell where memory is: so it is tried out. */
async function directMemory(handle: FileHandle, bytes: number): Promise<Uint8Array> {
  const memory = new ArrayBuffer(bytes + PAGE_BYTES);
  for (let offset = 0; offset < PAGE_BYTES; offset += 8) {
    const view = new Uint8Array(memory, offset, bytes);
    const done = await handle.read(view, 0, PAGE_BYTES, 0).catch(() => undefined);
    if (done) return view;
  }
  throw new Error('no memory is aligned for direct I/O');
}

function carryOut(task: Task): Promise<Told> {
  switch (task.kind) {
    case 'copy':
      return copyDevices(task);
    case 'copyFile':
      return copyAsNode(task);
    case 'zero':
      return zeroDevices(task);
    case 'beside':
      return copyBeside(task);
    case 'small':
      return smallJobs(task);
  }
}

const task = JSON.parse(process.argv[2] ?? 'null') as Task;
process.stdout.write(JSON.stringify(await carryOut(task)));
