// What is behind the public Throttle: three limits, checked, and the native throttle once a client needs it. It refuses to
// know how jobs are held back, and which clients share it.
import type { Throttle } from '../index.js';
import { binding } from './device.js';
import { wrongType } from './errors.js';
import type { NativeThrottle } from './native.js';
import { integer, readObject } from './options.js';

const LIMITS = { percent: integer(1, 100), bytesPerSecond: integer(1), iops: integer(1) } as const;

/** As the native part takes them; `null` is no limit. */
type Limits = readonly [percent: number | null, bytesPerSecond: number | null, iops: number | null];

export class SharedLimits {
  #limits: Limits;
  #native: NativeThrottle | undefined;

  constructor(limits: unknown) {
    this.#limits = readLimits(limits);
  }

  /** Other limits from now on; those that are not named end. */
  set(limits: unknown): void {
    this.#limits = readLimits(limits);
    this.#native?.set(...this.#limits);
  }

  /** Made for the first client: a Throttle can be made where the native part does not run. */
  native(): NativeThrottle {
    this.#native ??= binding().createThrottle(...this.#limits);
    return this.#native;
  }
}

function readLimits(value: unknown): Limits {
  if (value === undefined) throw wrongType('limits', 'an object: { percent, bytesPerSecond, iops }', value);
  const { percent = null, bytesPerSecond = null, iops = null } = readObject(value, 'limits', LIMITS);
  return [percent, bytesPerSecond, iops];
}

// As with devices: the public class hands in a way to its private field.
let lookInside: (value: object) => SharedLimits | undefined = () => undefined;

/** Called once, by the public class. */
export function giveSightOfThrottle(look: (value: object) => SharedLimits | undefined): void {
  lookInside = look;
}

/** Reads a Throttle. */
export function throttle(value: unknown, name: string, key: string): SharedLimits {
  const inside = typeof value === 'object' && value !== null ? lookInside(value as Throttle) : undefined;
  if (!inside) throw wrongType(`${name}.${key}`, 'a Throttle', value);
  return inside;
}
