// What the demo copies from and to: loop devices where they are to be had, else files; a destination that fails in the middle;
// one that must be refused. It makes them and says what it made; what happens to them is main.ts's matter.
import { cpSync, readdirSync, statfsSync, statSync } from 'node:fs';
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { formatBytes } from '../../cli/format.js';
import { output } from '../../test/support/command.js';
import { type Facility, hasExt4, hasLoop, hasMount, hasNbd } from '../../test/support/machine.js';
import type { Workshop } from '../../test/support/workshop.js';

const MIB = 1 << 20;
const TREE_BYTES_MAX = 80 * MIB;
const SPARE_BYTES = 32 * MIB;
const FAILS_AT_BYTES = 32 * MIB;
const FAILS_FOR_BYTES = MIB;

/** Something to copy from or to. */
export interface Disk {
  readonly path: string;
  /** For people: the path and what is special about it. */
  readonly name: string;
}

/** What is on the source. */
export interface Image {
  readonly bytes: number;
  /** Whether it is an ext4 file system, of the files below `tree`; else random bytes. */
  readonly ext4: boolean;
  readonly tree: string;
}

/** A destination that fails in the middle, and two empty ones to go with it. */
export interface FaultyDisk extends Disk {
  readonly failsAt: number;
  readonly code: string;
  readonly beside: readonly [Disk, Disk];
}

export interface Disks {
  readonly image: Image;
  readonly source: Disk;
  readonly copies: readonly Disk[];
  /** Its writes fail from `failsAt` on; a string: why there is none. */
  readonly faulty: FaultyDisk | string;
  /** Must be refused, with this code. */
  readonly refused: Disk & { readonly code: string; readonly why: string };
}

type Say = (line: string) => void;

/** Makes everything. */
export async function makeDisks(workshop: Workshop, root: string, say: Say): Promise<Disks> {
  const loops = await hasLoop();
  if (!loops.available) say(`on files, not on block devices: ${loops.reason}`);
  const file = workshop.path('.source');
  const image = await makeImage(workshop, file, root, say);
  const disks = loops.available ? await loopDisks(workshop, file, image) : await fileDisks(workshop, file, image);
  return { image, ...disks, faulty: await faultyDisk(workshop, loops) };
}

/** An ext4 image of real files, where its tools are installed. */
async function makeImage(workshop: Workshop, file: string, root: string, say: Say): Promise<Image> {
  const tree = join(workshop.directory, 'tree');
  const tools = await hasExt4();
  if (!tools.available) {
    say(`random bytes instead of a file system: ${tools.reason}`);
    await workshop.file({ path: file, bytes: 128 * MIB, seed: 'demo' });
    return { bytes: 128 * MIB, ext4: false, tree };
  }
  const treeBytes = await makeTree(tree, root);
  const bytes = Math.ceil((treeBytes * 1.2 + SPARE_BYTES) / MIB) * MIB;
  await workshop.file({ path: file, bytes });
  // Blocks of 4096 bytes, so that the copy on 4096-byte sectors can be mounted too.
  await output('mkfs.ext4', ['-q', '-b', '4096', '-d', tree, file], { timeoutMs: 120_000 });
  say(`source: an ext4 file system of ${formatBytes(bytes)} with ${formatBytes(treeBytes)} of real files, ${file}`);
  return { bytes, ext4: true, tree };
}

/** Copies real files, links among them: this project's own packages, as many as there is room for. Returns their bytes. */
async function makeTree(tree: string, root: string): Promise<number> {
  await mkdir(tree);
  const { bavail, bsize } = statfsSync(tree);
  const most = Math.min(TREE_BYTES_MAX, (bavail * bsize) / 8);
  let bytes = 0;
  for (const name of [
    'src',
    'crates',
    ...readdirSync(join(root, 'node_modules')).map((name) => join('node_modules', name)),
  ]) {
    const size = bytesOf(join(root, name));
    if (bytes + size > most) continue;
    cpSync(join(root, name), join(tree, name), { recursive: true, verbatimSymlinks: true });
    bytes += size;
  }
  return bytes;
}

function bytesOf(path: string): number {
  const found = statSync(path);
  // Less than a block takes a block.
  if (!found.isDirectory()) return Math.max(found.size, 4096);
  const entries = readdirSync(path, { withFileTypes: true }).filter((entry) => !entry.isSymbolicLink());
  return entries.reduce((sum, { name }) => sum + bytesOf(join(path, name)), 4096);
}

type Places = Pick<Disks, 'source' | 'copies' | 'refused'>;

async function loopDisks(workshop: Workshop, file: string, { bytes }: Image): Promise<Places> {
  const source = await workshop.attach(file, { readOnly: true });
  const copies: Disk[] = [];
  for (const sectorSize of [512, 4096, 512] as const) {
    const { path } = await workshop.loop({ bytes, sectorSize });
    copies.push({ path, name: sectorSize === 512 ? path : `${path} (${sectorSize}-byte sectors)` });
  }
  const small = await workshop.loop({ bytes: bytes - MIB });
  const refused = {
    path: small.path,
    name: small.path,
    code: 'ERR_KCOPYD_BOUNDS',
    why: 'one destination is 1 MiB too small',
  };
  return { source: { path: source.path, name: source.path }, copies, refused };
}

/** A path is opened for a job without `create`: so the files are there, empty, and grow. */
async function fileDisks(workshop: Workshop, file: string, _image: Image): Promise<Places> {
  const copies: Disk[] = [];
  for (let made = 0; made < 3; made += 1) {
    const path = await workshop.file({ bytes: 0 });
    copies.push({ path, name: path });
  }
  const path = await workshop.file({ bytes: 0 });
  // Root may write it all the same; then the demo is on files because loop devices are not allowed, and a directory is refused.
  const isRoot = process.geteuid?.() === 0;
  const refused = isRoot
    ? {
        path: workshop.directory,
        name: workshop.directory,
        code: 'ERR_KCOPYD_UNSUPPORTED_DEVICE',
        why: 'one destination is a directory',
      }
    : { path, name: path, code: 'EACCES', why: 'one destination may not be written' };
  if (!isRoot) await chmod(path, 0o444);
  return { source: { path: file, name: file }, copies, refused };
}

/** A destination that cannot be written from some place on: a device with a bad place, or one whose file system gets full. */
async function faultyDisk(workshop: Workshop, loops: Facility): Promise<FaultyDisk | string> {
  const nbd = await hasNbd();
  const mounts = await hasMount();
  if (!nbd.available && !(loops.available && mounts.available)) return `no device that fails: ${nbd.reason}`;
  // Not the copies that were made before: those hold the right bytes already.
  const beside = [await emptyDisk(workshop, loops), await emptyDisk(workshop, loops)] as const;
  if (nbd.available) {
    const bad = { offset: FAILS_AT_BYTES, length: FAILS_FOR_BYTES };
    const faulty = await workshop.faulty({
      kind: 'bad-writes',
      file: await workshop.file({ bytes: FAILS_AT_BYTES * 2 }),
      bad,
    });
    const path = loops.available ? (await workshop.attach(faulty.path)).path : faulty.path;
    return {
      path,
      name: `${path} (a bad place at ${formatBytes(bad.offset)})`,
      failsAt: bad.offset,
      code: 'EIO',
      beside,
    };
  }
  // The file looks large enough; the file system under it has room for half.
  const small = await workshop.tmpfs(FAILS_AT_BYTES);
  const file = await workshop.file({ path: join(small, 'sparse'), bytes: FAILS_AT_BYTES * 2 });
  const { path } = await workshop.attach(file);
  const name = `${path} (on a file system with room for ${formatBytes(FAILS_AT_BYTES)})`;
  return { path, name, failsAt: FAILS_AT_BYTES, code: 'ENOSPC', beside };
}

async function emptyDisk(workshop: Workshop, loops: Facility): Promise<Disk> {
  const bytes = FAILS_AT_BYTES * 2;
  const path = loops.available ? (await workshop.loop({ bytes })).path : await workshop.file({ bytes: 0 });
  return { path, name: path };
}
