// What the cases of the fault matrix work on: one source and up to eight destinations, all with the same logical block, with
// known bytes before, in and behind the regions; the devices are made once for many cases and filled anew for each.
// It knows no fault, and of kcopyd only what a region is.
import { open, truncate } from 'node:fs/promises';
import type { KcopydClient } from 'kcopyd';
import type { FaultyFile } from '../../support/faulty.js';
import { type EngineName, SECTOR } from '../../support/kcopyd.js';
import { randomBytes } from '../../support/random.js';
import { Workshop } from '../../support/workshop.js';

/** Sectors of every device; the regions lie well inside, at another place on the source than on the destinations. */
export const DEVICE_SECTORS = 2048;
export const FROM_SECTOR = 256;
export const TO_SECTOR = 768;
export const COUNT = 1024;
/** Sectors of a sub-job: 32 of them make a region. */
export const PIECE = 32;

export const DEVICE_BYTES: number = DEVICE_SECTORS * SECTOR;

/** Something that kcopyd is given, and the file in which one can look at its bytes behind its back, if there is one. */
export interface Place {
  readonly path: string;
  readonly file: string | undefined;
  /** Whether it holds zeros before a case, in a sparse file, and not what others hold. */
  readonly sparse?: boolean;
}

/** What a place holds before a case. */
export function before({ sparse }: Place): Buffer {
  return sparse ? ZEROS : BEFORE;
}

/** Thrown where the machine does not have what a case needs. */
export class Unavailable extends Error {}

/** What the source holds, and what a destination holds before a case. */
export const SOURCE: Buffer = randomBytes('source', DEVICE_BYTES);
const BEFORE: Buffer = randomBytes('before', DEVICE_BYTES);
const ZEROS: Buffer = Buffer.alloc(DEVICE_BYTES);

/** Writes the whole of a file anew, in place: what is attached to it stays so. */
async function fill(file: string, bytes: Buffer): Promise<void> {
  const handle = await open(file, 'r+');
  await handle.writeFile(bytes);
  await handle.close();
}

/** The devices of one logical block size. Made when they are first asked for. */
export class Rig {
  readonly workshop: Workshop;
  readonly sectorSize: 512 | 4096;
  readonly #healthy: Promise<Place>[] = [];
  #source: Promise<Place> | undefined;
  readonly #special = new Map<string, Promise<unknown>>();

  constructor(workshop: Workshop, sectorSize: 512 | 4096) {
    this.workshop = workshop;
    this.sectorSize = sectorSize;
  }

  /** A source without a fault. */
  source(): Promise<Place> {
    this.#source ??= this.workshop.loop({ bytes: DEVICE_BYTES, seed: 'source', sectorSize: this.sectorSize });
    return this.#source;
  }

  /** So many destinations without a fault, as they were before anything was copied. */
  async healthy(count: number): Promise<Place[]> {
    while (this.#healthy.length < count) {
      this.#healthy.push(this.workshop.loop({ bytes: DEVICE_BYTES, seed: 'before', sectorSize: this.sectorSize }));
    }
    return Promise.all(this.#healthy.slice(0, count));
  }

  /** A device on a file that fails: `place` is the device, and the file's bytes lie in `place.file`. */
  async on(faulty: FaultyFile, file: string | undefined, options: { readOnly?: boolean } = {}): Promise<Place> {
    const { path } = await this.workshop.attach(faulty.path, { sectorSize: this.sectorSize, ...options });
    return { path, file };
  }

  /** A new file with these bytes. */
  file(seed: 'source' | 'before'): Promise<string> {
    return this.workshop.file({ bytes: DEVICE_BYTES, seed });
  }

  /** What `make` makes, once for all cases that ask for it by this name. */
  once<T>(name: string, make: () => Promise<T>): Promise<T> {
    let made = this.#special.get(name) as Promise<T> | undefined;
    if (made === undefined) {
      made = make();
      this.#special.set(name, made);
    }
    return made;
  }
}

/** All rigs of a test file, with the workshop that clears them away. */
export class Rigs {
  readonly #workshop: Workshop = new Workshop({
    unavailable: (reason) => {
      throw new Unavailable(reason);
    },
  });
  readonly #rigs = new Map<number, Rig>();

  of(sectorSize: 512 | 4096): Rig {
    let rig = this.#rigs.get(sectorSize);
    if (rig === undefined) {
      rig = new Rig(this.#workshop, sectorSize);
      this.#rigs.set(sectorSize, rig);
    }
    return rig;
  }

  dispose(): Promise<void> {
    return this.#workshop.dispose();
  }
}

/** One point of the matrix. */
export interface Setting {
  readonly sectorSize: 512 | 4096;
  readonly destinations: number;
  readonly engine: EngineName;
}

/** One copy from a source to destinations: what is asked for, and where its bytes can be looked at. */
export interface Trial extends Setting {
  readonly rig: Rig;
  readonly client: KcopydClient;
  readonly from: Place;
  readonly to: readonly Place[];
  /** Which of the destinations is the one with the fault, if one has one. */
  readonly odd: number;
}

/** Puts the bytes back that destinations had before. */
export async function reset(to: readonly Place[]): Promise<void> {
  await Promise.all(
    to.map(async ({ file, sparse }) => {
      if (file === undefined) return;
      if (!sparse) await fill(file, BEFORE);
      else for (const bytes of [0, DEVICE_BYTES]) await truncate(file, bytes);
    }),
  );
}
