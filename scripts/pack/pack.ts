// Packs the root and the platforms whose binaries are in npm/binaries, and lets the gate look at what came of it.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { programs } from '../../test/support/machine.js';
import { binariesDirectory } from './build.js';
import { inspect } from './gate.js';
import { choose, type Platform, platformsOf, readManifest } from './platforms.js';
import { say } from './say.js';
import { pack } from './stage.js';
import { install } from './tools.js';

/** The glibc of Node's own binaries: who has an older one has no Node to load this with. */
const GLIBC_MAX = [2, 28] as const;

/** What was packed, if it may be published. */
export interface Packed {
  readonly tarballs: readonly string[];
  readonly platforms: readonly Platform[];
}

/** Packs the platforms that are named, or all; throws if the gate has something to say. */
export async function packAll(root: string, names: readonly string[]): Promise<Packed> {
  const platforms = choose(platformsOf(readManifest(root)), names);
  const binaries = new Map(platforms.map((platform) => [platform, join(binariesDirectory(root), platform.binary)]));
  const absent = [...binaries.values()].filter((path) => !existsSync(path));
  if (absent.length > 0) throw new Error(`not built: ${absent.join(', ')}; run npm run build:all`);
  return packBinaries(root, join(root, 'npm'), binaries, GLIBC_MAX);
}

/** Packs the root and one binary that was built for this machine only (`npm run build`). */
export async function packLocal(root: string, into: string): Promise<Packed> {
  const [platform] = choose(platformsOf(readManifest(root)), ['host']);
  if (!platform) throw new Error('kcopyd has no binary for this machine');
  return packBinaries(root, into, new Map([[platform, join(root, 'native', platform.binary)]]), null);
}

async function packBinaries(
  root: string,
  into: string,
  binaries: ReadonlyMap<Platform, string>,
  glibcMax: readonly [number, number] | null,
): Promise<Packed> {
  if (!programs('readelf').available) await install(['binutils']);
  const platforms = [...binaries.keys()];
  const tarballs = await pack({ root, into, binaries });
  const { problems, report } = await inspect({ root, tarballs, platforms, glibcMax });
  for (const line of report) say(line);
  if (problems.length > 0) throw new Error(`the gate is shut:\n  ${problems.join('\n  ')}`);
  say(`the gate is open: ${tarballs.length} packages in ${join(into, 'tarballs')}`);
  return { tarballs, platforms };
}
