// The process that is measured: it copies as it is told by its one argument, through the public face or through fs.promises,
// measures itself, and prints that as JSON. It knows no peers and no rounds.
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import { type ClientOptions, type ClientStats, Device, KcopydClient } from 'kcopyd';
import { place } from './places.js';
import type { CopyTask, SmallTask, Task, Told } from './task.js';

const PAGE_BYTES = 4096;
const PAGE_SECTORS = 8;
/** What the histogram cannot see, and counts as delay all the same. */
const RESOLUTION_MS = 1;

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

async function withClient(task: Task, body: (devices: Devices) => Promise<Told>): Promise<Told> {
  const client = await KcopydClient.create(task.client as ClientOptions);
  const from = await Device.open(task.source);
  const to: Device[] = [];
  for (const path of task.destinations) to.push(await Device.open(path, { access: 'write' }));
  const told = await body({ client, from, to });
  await Promise.all([from, ...to].map((device) => device.close()));
  await client.close();
  return told;
}

function copyDevices(task: CopyTask): Promise<Told> {
  return withClient(task, async ({ client, from, to }) => {
    const before = client.stats;
    const watch = new Watch();
    for (let time = 0; time < task.times; time++) {
      await client.copy(
        { device: from },
        to.map((device) => ({ device })),
        { flush: true },
      );
      watch.look();
    }
    return watch.told(task.times * from.bytes, client.stats, before);
  });
}

function smallJobs(task: SmallTask): Promise<Told> {
  if (task.way === 'fs.promises') return fsJobs(task, 0);
  if (task.way === 'fs.promises direct') return fsJobs(task, constants.O_DIRECT);
  return withClient(task, async (devices) => {
    const before = devices.client.stats;
    const pages = task.bytes / PAGE_BYTES;
    const watch = new Watch();
    if (task.way === 'copy') await atDepth(task, (job) => copyPage(devices, place(job, pages)));
    else await submitAll(devices, task, pages);
    return watch.told(task.jobs * PAGE_BYTES, devices.client.stats, before);
  });
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

function copyPage({ client, from, to }: Devices, page: number): Promise<unknown> {
  const sector = page * PAGE_SECTORS;
  return client.copy({ device: from, sector, count: PAGE_SECTORS }, { device: to[0]!, sector });
}

/** Jobs in the kernel's shape: each completion submits the next. */
function submitAll({ client, from, to }: Devices, { jobs, depth }: SmallTask, pages: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let next = 0;
    let over = 0;
    const submit = (): void => {
      const sector = place(next++, pages) * PAGE_SECTORS;
      client.submitCopy({ device: from, sector, count: PAGE_SECTORS }, [{ device: to[0]!, sector }], 0, notify);
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
  const memory = await directMemory(from, task.depth * PAGE_BYTES);
  const pages = task.bytes / PAGE_BYTES;
  const watch = new Watch();
  await atDepth(task, async (job, slot) => {
    const offset = place(job, pages) * PAGE_BYTES;
    const read = await from.read(memory, slot * PAGE_BYTES, PAGE_BYTES, offset);
    const written = await to.write(memory, slot * PAGE_BYTES, PAGE_BYTES, offset);
    if (read.bytesRead !== PAGE_BYTES || written.bytesWritten !== PAGE_BYTES) throw new Error('a job came short');
  });
  const told = watch.told(task.jobs * PAGE_BYTES);
  await to.sync();
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

const task = JSON.parse(process.argv[2] ?? 'null') as Task;
const told = task.kind === 'copy' ? await copyDevices(task) : await smallJobs(task);
process.stdout.write(JSON.stringify(told));
