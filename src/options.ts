// Reads what callers hand in (P30): every property once, own properties only, unknown ones refused with the nearest known
// name, numbers checked before anything happens. It refuses to know devices, clients and jobs: it turns values of unknown
// type into values of known type and says precisely where that failed.
import { fileURLToPath } from 'node:url';
import { outOfRange, unknownOption, unusable, wrongType } from './errors.js';

/** Reads one property; `name.key` is how the caller would write it. */
export type Reader<T> = (value: unknown, name: string, key: string) => T;

type Shape = Readonly<Record<string, Reader<unknown>>>;
type Values<S extends Shape> = { -readonly [K in keyof S]?: ReturnType<S[K]> };

/** Reads an object of optional properties. A property that is undefined is absent; so is the whole object. */
export function readObject<S extends Shape>(value: unknown, name: string, shape: S): Values<S> {
  // Without a prototype: what somebody has put on Object.prototype is no option of this caller's.
  const values: Record<string, unknown> = Object.create(null);
  if (value === undefined) return values as Values<S>;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrongType(name, 'an object', value);
  for (const key of Object.getOwnPropertyNames(value)) {
    if (!Object.hasOwn(shape, key)) throw unknownKey(name, key, Object.keys(shape));
    const property: unknown = (value as Record<string, unknown>)[key];
    if (property !== undefined) values[key] = (shape[key] as Reader<unknown>)(property, name, key);
  }
  return values as Values<S>;
}

/** The refusal of a property that nobody knows. */
export function unknownKey(name: string, key: string, known: readonly string[]): Error {
  return unknownOption(`${name}.${key}`, `${name}.${nearest(key, known)}`);
}

/** `true` or `false`. */
export function flag(value: unknown, name: string, key: string): boolean {
  if (typeof value !== 'boolean') throw wrongType(`${name}.${key}`, 'true or false', value);
  return value;
}

/** One of some words. */
export function oneOf<const T extends string>(...words: readonly T[]): Reader<T> {
  return (value, name, key) => {
    const expected = `one of ${words.map((word) => `'${word}'`).join(', ')}`;
    if (typeof value !== 'string') throw wrongType(`${name}.${key}`, expected, value);
    const word = words.find((candidate) => candidate === value);
    if (word === undefined) throw outOfRange(`${name}.${key}`, expected, value);
    return word;
  };
}

/** A whole number from `least` to `most`. */
export function integer(least: number, most: number = Number.MAX_SAFE_INTEGER): Reader<number> {
  return (value, name, key) => wholeNumber(value, `${name}.${key}`, least, most);
}

/** The same, of a value that is no property. */
export function wholeNumber(value: unknown, field: string, least: number, most: number): number {
  const expected = `a whole number from ${least} to ${most}`;
  if (typeof value !== 'number') throw wrongType(field, expected, value);
  if (!Number.isSafeInteger(value) || value < least || value > most) throw outOfRange(field, expected, value);
  return value + 0; // -0 is 0
}

/** A number of sectors, or of a sector: from 0 to 2^53 - 1, as a number or a bigint. */
export function sectorNumber(value: unknown, name: string, key: string): number {
  if (typeof value === 'number') {
    if (Number.isSafeInteger(value) && value >= 0) return value + 0; // -0 is 0
  } else if (typeof value === 'bigint') {
    if (value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
  } else {
    throw wrongType(`${name}.${key}`, 'a number or a bigint of sectors of 512 bytes', value);
  }
  throw outOfRange(`${name}.${key}`, 'a whole number of sectors of 512 bytes, from 0 to 2^53 - 1', value);
}

/** A function. Its type is the caller's word. */
export function callback<F>(value: unknown, name: string, key: string): F {
  if (typeof value !== 'function') throw wrongType(`${name}.${key}`, 'a function', value);
  return value as F;
}

/** An AbortSignal, of this realm or another: judged by what is used of it. */
export function abortSignal(value: unknown, name: string, key: string): AbortSignal {
  const signal = value as AbortSignal | null;
  if (typeof signal !== 'object' || signal === null || typeof signal.aborted !== 'boolean') {
    throw wrongType(`${name}.${key}`, 'an AbortSignal', value);
  }
  for (const method of ['addEventListener', 'removeEventListener'] as const) {
    if (typeof signal[method] !== 'function') throw wrongType(`${name}.${key}`, 'an AbortSignal', value);
  }
  return signal;
}

/** A path as the bytes that the kernel is to see: names of files need not be UTF-8. A copy, so that later changes do not count. */
export function pathBytes(value: unknown, field: string): Buffer {
  const bytes = encodePath(value, field);
  if (bytes.includes(0)) throw outOfRange(field, 'a path without zero bytes', value);
  return bytes;
}

/** Whether a value is meant as a path. */
export function isPath(value: unknown): value is string | URL | Uint8Array {
  return typeof value === 'string' || value instanceof Uint8Array || isUrl(value);
}

function encodePath(value: unknown, field: string): Buffer {
  if (typeof value === 'string') return Buffer.from(value);
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (!isUrl(value)) throw wrongType(field, 'a path: a string, a file: URL or a Buffer', value);
  try {
    return Buffer.from(fileURLToPath(value));
  } catch (error) {
    throw unusable(field, (error as Error).message, error);
  }
}

function isUrl(value: unknown): value is URL {
  if (typeof value !== 'object' || value === null) return false;
  return value instanceof URL || ('href' in value && 'protocol' in value);
}

/** The candidate that takes the fewest edits to become `word`, upper and lower case being the same letter. */
function nearest(word: string, candidates: readonly string[]): string {
  // Far longer words are all equally wrong, and comparing them would cost their length times ours.
  const asked = word.slice(0, 40).toLowerCase();
  const distances = candidates.map((candidate) => editDistance(asked, candidate.toLowerCase()));
  return candidates[distances.indexOf(Math.min(...distances))] ?? '';
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let line = 1; line <= a.length; line++) {
    const next = [line];
    for (let column = 1; column <= b.length; column++) {
      const replaced = row[column - 1]! + (a[line - 1] === b[column - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[column]! + 1, next[column - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
