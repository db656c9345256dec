// Reads regions and finds out what a DeviceLike is. It refuses to open anything: job_devices.ts does.

import { behind, type OpenDevice } from './device.js';
import { outOfRange, wrongType } from './errors.js';
import { DESTINATIONS_MAX } from './limits.js';
import { isPath, pathBytes, sectorNumber, unknownKey } from './options.js';

/** A DeviceLike, read. */
export type DeviceChoice = OpenDevice | PathChoice | DescriptorChoice;
export interface PathChoice {
  readonly path: Buffer;
}
export interface DescriptorChoice {
  readonly descriptor: number;
}

/** An IoRegion, read. */
export interface RegionRequest<D = DeviceChoice> {
  /** How the caller names it: `from`, `to[1]`. */
  readonly name: string;
  /** From 0; undefined for the source. */
  readonly destination: number | undefined;
  readonly device: D;
  readonly sector: number;
  /** -1: the default. */
  readonly count: number;
}

/** The regions of a job. */
export interface Regions<D = DeviceChoice> {
  /** `null`: there is none, the job writes zeroes. */
  readonly source: RegionRequest<D> | null;
  readonly destinations: readonly RegionRequest<D>[];
}

// Made once: a small job should not pay for names that only an error needs.
const NAMES: readonly string[] = Array.from({ length: DESTINATIONS_MAX }, (_, index) => `to[${index}]`);

/** The regions of `copy`: any DeviceLike, one destination or an array. */
export function readRegions(from: unknown, to: unknown): Regions {
  const destinations = Array.isArray(to) ? to : [to];
  return pair(
    readRegion(from, 'from', undefined, deviceLike),
    readDestinations(destinations, deviceLike, Array.isArray(to)),
  );
}

/** The regions of `submitCopy`: opened Devices, an array of destinations. */
export function readOpenedRegions(from: unknown, to: unknown): Regions<OpenDevice> {
  if (!Array.isArray(to)) throw wrongType('to', 'an array of regions', to);
  return pair(readRegion(from, 'from', undefined, openedDevice), readDestinations(to, openedDevice, true));
}

/** The regions of `zero`: each names its count, and all the same. */
export function readZeroRegions(to: unknown): Regions {
  return unpaired(readDestinations(Array.isArray(to) ? to : [to], deviceLike, Array.isArray(to)));
}

/** The regions of `submitZero`. */
export function readOpenedZeroRegions(to: unknown): Regions<OpenDevice> {
  if (!Array.isArray(to)) throw wrongType('to', 'an array of regions', to);
  return unpaired(readDestinations(to, openedDevice, true));
}

/** The devices of a job's regions, the source's first; one that is named twice comes twice. */
export function devicesOf<D>({ source, destinations }: Regions<D>): readonly RegionRequest<D>[] {
  return source ? [source, ...destinations] : destinations;
}

function unpaired<D>(destinations: readonly RegionRequest<D>[]): Regions<D> {
  const first = destinations[0]!;
  for (const { name, count } of destinations) {
    const field = `${name}.count`;
    // Nobody wipes a disk by omission.
    if (count < 0) throw wrongType(field, 'the number of sectors to make zero, which has no default', undefined);
    if (count !== first.count) throw outOfRange(field, `the same as ${first.name}.count, ${first.count}`, count);
  }
  return { source: null, destinations };
}

function pair<D>(source: RegionRequest<D>, destinations: readonly RegionRequest<D>[]): Regions<D> {
  for (const destination of destinations) {
    // Where the source's count is its default, only the native part knows what it is.
    if (source.count < 0 || destination.count < 0 || destination.count === source.count) continue;
    throw outOfRange(`${destination.name}.count`, `the source's count, ${source.count}, or absent`, destination.count);
  }
  return { source, destinations };
}

function readDestinations<D>(to: readonly unknown[], readDevice: DeviceReader<D>, listed: boolean): RegionRequest<D>[] {
  // Read once: a getter in one of the regions may make it longer.
  const { length } = to;
  if (length === 0 || length > DESTINATIONS_MAX) {
    throw outOfRange('to', `an array of 1 to ${DESTINATIONS_MAX} regions`, to);
  }
  const regions: RegionRequest<D>[] = [];
  for (let index = 0; index < length; index++) {
    regions.push(readRegion(to[index], listed ? NAMES[index]! : 'to', index, readDevice));
  }
  return regions;
}

type DeviceReader<D> = (value: unknown, name: string) => D;
const KEYS: readonly string[] = ['device', 'sector', 'count'];

/** Spelled out key by key, where `readObject` would look them up: small jobs are mostly this. */
function readRegion<D>(
  value: unknown,
  name: string,
  destination: number | undefined,
  readDevice: DeviceReader<D>,
): RegionRequest<D> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw noRegion(name, value);
  const region: Partial<Record<string, unknown>> = value;
  let device: unknown;
  let sector: unknown;
  let count: unknown;
  for (const key of Object.getOwnPropertyNames(value)) {
    if (key === 'device') device = region.device;
    else if (key === 'sector') sector = region.sector;
    else if (key === 'count') count = region.count;
    else throw isDeviceLike(value) ? noRegion(name, value) : unknownKey(name, key, KEYS);
  }
  if (device === undefined && isDeviceLike(value)) throw noRegion(name, value);
  return {
    name,
    destination,
    device: readDevice(device, name),
    sector: sector === undefined ? 0 : sectorNumber(sector, name, 'sector'),
    count: count === undefined ? -1 : sectorNumber(count, name, 'count'),
  };
}

/** What is most often meant: the device itself in the place of a region on it. */
function noRegion(name: string, value: unknown): Error {
  return wrongType(name, 'a region: { device }, or { device, sector, count }', value);
}

function isDeviceLike(value: object): boolean {
  return behind(value) !== undefined || isPath(value) || isFileHandle(value);
}

function deviceLike(value: unknown, name: string): DeviceChoice {
  const opened = behind(value);
  if (opened) return opened;
  const field = `${name}.device`;
  if (isPath(value)) return { path: pathBytes(value, field) };
  if (typeof value === 'number') {
    // A closed FileHandle has the descriptor -1: that is the system's EBADF, and not the caller's arithmetic.
    if (!Number.isInteger(value) || value < 0 || value > 0x7fff_ffff) {
      throw outOfRange(field, 'a file descriptor from 0 to 2^31 - 1', value);
    }
    return { descriptor: value };
  }
  if (isFileHandle(value)) return { descriptor: value.fd };
  throw wrongType(field, 'a Device, a path (string, file: URL or Buffer), a FileHandle or a file descriptor', value);
}

function openedDevice(value: unknown, name: string): OpenDevice {
  const opened = behind(value);
  if (opened) return opened;
  throw wrongType(`${name}.device`, 'a Device that was opened with Device.open()', value);
}

/** Node does not export the class. A stream has a descriptor too, but a position of its own as well: it is no FileHandle. */
function isFileHandle(value: unknown): value is { fd: number } {
  if (typeof value !== 'object' || value === null) return false;
  return 'fd' in value && typeof value.fd === 'number' && 'datasync' in value && typeof value.datasync === 'function';
}
