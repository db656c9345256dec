// Everything a copy needs open: its client, its source, its destinations; opened in that order so that what is refused is
// refused before a file is made, and closed again whatever happens. It knows the arguments, and nothing of how they are shown.
import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Device, type DeviceOptions, type IoRegion, KcopydClient } from '../index.js';
import type { CopyArguments } from './arguments.js';
import type { Asked } from './explain.js';
import type { Plan } from './report.js';

export class Setup {
  readonly #args: CopyArguments;
  #client: KcopydClient | undefined;
  #source: Device | undefined;
  readonly #destinations: Device[] = [];
  /** Destinations by where their names lead: one that is named twice is opened once, and the overlap is refused as such. */
  readonly #byPath = new Map<string, Device>();
  #opening: number | undefined;

  constructor(args: CopyArguments) {
    this.#args = args;
  }

  /** Opens everything; rejects with the first refusal. What was opened until then is closed by `close`. */
  async open(signal: AbortSignal): Promise<void> {
    const { source, destinations, create, engine, pages, subJobSectors } = this.#args;
    this.#client = await KcopydClient.create({
      engine,
      ...(pages !== undefined && { pages }),
      ...(subJobSectors !== undefined && { subJobSectors }),
    });
    this.#source = await Device.open(source);
    for (const [index, path] of destinations.entries()) {
      // Aborted meanwhile: the job will say so, without the rest.
      if (signal.aborted) return;
      this.#opening = index;
      this.#destinations.push(await this.#openDestination(path, { access: 'write', create }));
    }
    this.#opening = undefined;
  }

  async #openDestination(path: string, options: DeviceOptions): Promise<Device> {
    const key = await whereItLeads(path);
    const device = this.#byPath.get(key) ?? (await Device.open(path, options));
    this.#byPath.set(key, device);
    return device;
  }

  /** Closes what is open. */
  async close(): Promise<void> {
    await this.#source?.close();
    for (const device of this.#byPath.values()) await device.close();
    await this.#client?.close();
  }

  get client(): KcopydClient {
    if (!this.#client) throw new Error('the client is not open yet');
    return this.#client;
  }

  get from(): IoRegion {
    if (!this.#source) throw new Error('the source is not open yet');
    const { sector, count } = this.#args;
    return { device: this.#source, sector, ...(count !== undefined && { count }) };
  }

  get to(): IoRegion[] {
    return this.#destinations.map((device) => ({ device, sector: this.#args.destinationSector }));
  }

  get sectorsTotal(): number {
    const { count, sector } = this.#args;
    return count ?? Math.max(0, (this.#source?.sectors ?? 0) - sector);
  }

  get plan(): Plan {
    const { source, destinations, flush } = this.#args;
    return { source, destinations, flush, engine: this.client.stats.engine };
  }

  /** What was asked for, for explanations of a refusal. */
  get asked(): Asked {
    const { source, destinations, sector, count, destinationSector } = this.#args;
    return {
      source: { path: source, sectors: this.#source?.sectors, bytes: this.#source?.bytes },
      destinations: destinations.map((path, index) => ({ path, sectors: this.#destinations[index]?.sectors })),
      opening: this.#opening,
      sector,
      count,
      destinationSector,
    };
  }
}

/** Asked aside: a server that does not answer must not keep Ctrl-C from being heard. */
async function whereItLeads(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch {
    // Not there yet (--create), or not to be looked at: opening it will tell.
    return resolve(path);
  }
}
