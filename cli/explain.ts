// Refusals in the command's words: the package speaks of `to[1].sector` and of options, a person at a terminal of devices and
// flags, and wants to know what to do. Pure: an error and what the copy was about in, lines out.
import type { KcopydError } from '../index.js';
import { EXIT_FAILED, EXIT_USAGE } from './exit_codes.js';
import { formatBytes, formatSectors } from './format.js';

/** A device as far as it is known: the sizes once it is open. */
export interface Subject {
  readonly path: string;
  readonly sectors?: number | undefined;
  readonly bytes?: number | undefined;
}

/** What was asked for. */
export interface Asked {
  readonly source: Subject;
  readonly destinations: readonly Subject[];
  /** The destination that was being opened. */
  readonly opening: number | undefined;
  readonly sector: number;
  readonly count: number | undefined;
  readonly destinationSector: number;
}

const SECTOR_BYTES = 512;
const USAGE_CODES = new Set(['ERR_OUT_OF_RANGE', 'ERR_INVALID_ARG_TYPE', 'ERR_INVALID_ARG_VALUE']);

/** The exit code of a refusal: whether it is the arguments or the world. */
export function exitCodeOf(error: KcopydError): number {
  return USAGE_CODES.has(error.code) ? EXIT_USAGE : EXIT_FAILED;
}

/** What is wrong and what to do about it. */
export function explain(error: KcopydError, asked: Asked): string {
  const destination = asked.destinations[error.destination ?? asked.opening ?? -1];
  if (error.code === 'ERR_KCOPYD_BOUNDS') return bounds(asked, destination) ?? error.message;
  if (error.code === 'ERR_KCOPYD_OVERLAP') return overlap(destination);
  if (error.code === 'ENOENT' && destination) return `${error.message}; --create makes a file that is not there`;
  // A region's refusal speaks of to[1]; one of opening names the path already.
  const named = destination && !error.message.includes(destination.path) ? `${destination.path}: ` : '';
  return `${named}${error.message}`;
}

/** Too small, and by how much. */
function bounds(asked: Asked, destination: Subject | undefined): string | undefined {
  return destination ? destinationBounds(asked, destination) : sourceBounds(asked);
}

function sourceBounds({ source, sector, count }: Asked): string | undefined {
  if (source.sectors === undefined) return undefined;
  const available = source.sectors - sector;
  if (available < 0) return `${source.path} ends before sector ${sector}: it has ${formatSectors(source.sectors)}`;
  if (count === undefined) return undefined;
  const short = `${formatSectors(count - available)} short of the ${formatSectors(count)} from its sector ${sector}`;
  return `${source.path} is too small: ${short}; the most from there is --count ${available}`;
}

function destinationBounds(asked: Asked, { path, sectors }: Subject): string | undefined {
  const { source, sector, count, destinationSector } = asked;
  if (sectors === undefined || source.bytes === undefined) return undefined;
  const bytes = count === undefined ? source.bytes - sector * SECTOR_BYTES : count * SECTOR_BYTES;
  const room = Math.max(0, sectors - destinationSector);
  const missing = Math.ceil(bytes / SECTOR_BYTES) - room;
  // What does not fit may be no more than the rounding up to its logical block.
  const short = missing > 0 ? `${formatSectors(missing)} short` : 'its last logical block would not fit';
  const where = destinationSector === 0 ? '' : ` from sector ${destinationSector}`;
  return (
    `${path} is too small: ${short}. It has ${formatSectors(room)}${where}, and ${formatBytes(bytes)} are to be copied: ` +
    `take a larger device, or copy less with --count ${room}`
  );
}

function overlap(destination: Subject | undefined): string {
  const subject = destination?.path ?? 'a destination';
  return `${subject} would be written where this copy also reads or writes: name each place once. Nothing was copied`;
}
