// What is behind the public Device: the native device, the jobs that use it, and its one way from open to closed. It
// refuses to know regions and clients; a job takes it and gives it back.
import { readlinkSync } from 'node:fs';
import type { Device } from '../index.js';
import { deviceClosed, fromNative } from './errors.js';
import { loadBinding } from './loader.js';
import type { NativeDeviceOptions } from './native.js';
import { type Binding, isNativeError, type NativeAccess, type NativeDevice } from './native.js';
import { flag, integer, oneOf, pathBytes, readObject } from './options.js';
import { Tally } from './tally.js';

/** Where an open failed, in the caller's words. */
export interface OpenedFor {
  readonly destination?: number;
}

export class OpenDevice {
  /** As the caller wrote it; for a descriptor, what the kernel calls it. */
  readonly path: string;
  readonly native: NativeDevice;
  /** Names it in `submit`; kept here because asking the native object costs a call. */
  readonly handle: number;
  readonly #jobs = new Tally();
  #closing: Promise<void> | undefined;

  constructor(native: NativeDevice, path: string) {
    this.native = native;
    this.path = path;
    this.handle = native.handle;
  }

  /** A job begins to use it, for a region that the caller named so. */
  take(region: string, destination?: number): void {
    if (this.#closing) throw deviceClosed(`${region}.device`, this.path, destination);
    this.#jobs.add();
  }

  /** The job that took it does not use it any more. */
  giveBack(): void {
    this.#jobs.remove();
  }

  /** No more jobs; resolves when its own are done and its descriptors are closed (P33). Every call is the same close. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#jobs.zero();
    const error = await binding().closeDevice(this.native);
    if (error) throw fromNative(error, { path: this.path });
  }
}

/** The native part, or the reason why there is none. */
export function binding(): Binding {
  const loaded = loadBinding();
  if (isNativeError(loaded)) throw fromNative(loaded);
  return loaded;
}

const DEVICE_OPTIONS = {
  access: oneOf('read', 'write', 'read-write'),
  direct: oneOf('auto', 'always', 'never'),
  exclusive: flag,
  create: flag,
  expect: (value: unknown, name: string, key: string) =>
    readObject(value, `${name}.${key}`, { rdev: integer(0), size: integer(0), diskSequence: integer(0) }),
} as const;

/** `Device.open`. */
export async function openDevice(path: unknown, options: unknown): Promise<OpenDevice> {
  const bytes = pathBytes(path, 'path');
  const read = readObject(options, 'options', DEVICE_OPTIONS);
  return openPath(bytes, {
    access: read.access ?? 'read',
    direct: read.direct ?? 'auto',
    exclusive: read.exclusive ?? null,
    create: read.create ?? false,
    expectRdev: read.expect?.rdev ?? null,
    expectSize: read.expect?.size ?? null,
    expectDiskSequence: read.expect?.diskSequence ?? null,
  });
}

/** Opens a path for one job, with the defaults. */
export function openPathForJob(bytes: Buffer, access: NativeAccess, known: OpenedFor): Promise<OpenDevice> {
  const defaults = { direct: 'auto', exclusive: null, create: false } as const;
  const expect = { expectRdev: null, expectSize: null, expectDiskSequence: null };
  return openPath(bytes, { access, ...defaults, ...expect }, known);
}

async function openPath(bytes: Buffer, options: NativeDeviceOptions, known: OpenedFor = {}): Promise<OpenDevice> {
  const path = bytes.toString();
  const native = await binding().openDevice(bytes, options);
  if (isNativeError(native)) throw fromNative(native, { path, ...known });
  return new OpenDevice(native, path);
}

/** Takes a duplicate of a caller's descriptor for one job, at once: the caller may close its own right after (P29). */
export function adoptForJob(descriptor: number, access: NativeAccess, known: OpenedFor): OpenDevice {
  const native = binding().adoptDescriptor(descriptor, access);
  const path = pathOfDescriptor(descriptor);
  if (isNativeError(native)) throw fromNative(native, { path, ...known });
  return new OpenDevice(native, path);
}

function pathOfDescriptor(descriptor: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`);
  } catch {
    return `file descriptor ${descriptor}`;
  }
}

// The public class hands in a way to its private field, so that nothing of this is visible on a Device.
let lookInside: (value: object) => OpenDevice | undefined = () => undefined;

/** Called once, by the public class. */
export function giveSight(look: (value: object) => OpenDevice | undefined): void {
  lookInside = look;
}

/** What is behind a public Device; undefined for anything else. */
export function behind(value: unknown): OpenDevice | undefined {
  return typeof value === 'object' && value !== null ? lookInside(value as Device) : undefined;
}
