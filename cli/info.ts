// `kcopyd info`: what the package sees of devices: size, blocks, direct I/O and the reason, whether in use, and the engine that
// would carry a copy here.
import { Device, KcopydError, support } from '../index.js';
import type { InfoArguments } from './arguments.js';
import { EXIT_COMPLETE, EXIT_FAILED } from './exit_codes.js';
import { formatBytes, plural, table } from './format.js';
import { complain, print, printJson } from './streams.js';

/** What is told of one device. */
interface DeviceInfo {
  readonly path: string;
  readonly kind: 'block' | 'file';
  readonly bytes: number;
  readonly sectors: number;
  readonly logicalBlockSize: number;
  readonly physicalBlockSize: number;
  readonly direct: boolean;
  readonly directReason: string;
  /** Null: it could be opened exclusively just now; else why not. */
  readonly inUse: string | null;
}

/** Tells of each device; the exit code. */
export async function info({ devices, json }: InfoArguments): Promise<number> {
  const engine = support();
  if (json) printJson({ type: 'support', ...engine });
  let exitCode = EXIT_COMPLETE;
  for (const path of devices) {
    try {
      const found = await look(path);
      if (json) printJson({ type: 'device', ...found });
      else for (const line of deviceLines(found)) print(line);
    } catch (error) {
      if (!(error instanceof KcopydError)) throw error;
      exitCode = EXIT_FAILED;
      if (json) printJson({ type: 'error', code: error.code, message: error.message, path });
      else complain(error.message);
    }
  }
  if (!json)
    print(`engine here: ${engine.engine ?? 'none'} (${engine.reason}); ${engine.platform}, kernel ${engine.kernel}`);
  return exitCode;
}

async function look(path: string): Promise<DeviceInfo> {
  const device = await Device.open(path);
  try {
    const { kind, bytes, sectors, logicalBlockSize, physicalBlockSize, direct, directReason } = device;
    const known = { path, kind, bytes, sectors, logicalBlockSize, physicalBlockSize, direct, directReason };
    return { ...known, inUse: await whyInUse(path, kind) };
  } finally {
    await device.close();
  }
}

/**
 * Why a block device cannot be had for writing; null if it can. Asked by opening it exclusively for a moment, which tells of
 * other programs that hold it too, where no list would. A file is not asked: the lock that it takes could refuse another
 * program's copy meanwhile.
 */
async function whyInUse(path: string, kind: 'block' | 'file'): Promise<string | null> {
  if (kind === 'file') return null;
  try {
    const device = await Device.open(path, { access: 'read', exclusive: true });
    await device.close();
    return null;
  } catch (error) {
    if (error instanceof KcopydError && error.code === 'EBUSY') return error.message;
    throw error;
  }
}

function deviceLines(device: DeviceInfo): string[] {
  const blocks = `logical ${device.logicalBlockSize} bytes, physical ${device.physicalBlockSize} bytes`;
  const size = `${formatBytes(device.bytes)} (${plural(device.bytes, 'byte')}, ${plural(device.sectors, 'sector')})`;
  const rows = [
    ['  kind', device.kind === 'block' ? 'block device' : 'regular file'],
    ['  size', size],
    ['  blocks', blocks],
    ['  direct I/O', `${device.direct ? 'yes' : 'no'} (${device.directReason})`],
    ...(device.kind === 'block' ? [['  in use', device.inUse ?? 'no']] : []),
  ];
  return [device.path, ...table(rows)];
}
