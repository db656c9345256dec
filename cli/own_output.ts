// Where the command's own words go: a destination must not be there too, or the report would be written over what was copied.
import { type BigIntStats, fstatSync } from 'node:fs';
import { stat } from 'node:fs/promises';

/** The first of these paths that leads to where standard output or standard error goes; undefined if none does. */
export async function ownOutput(paths: readonly string[]): Promise<string | undefined> {
  const outputs = [1, 2].map((descriptor) => placeOf(fstatSync(descriptor, { bigint: true })));
  if (outputs.every((place) => place === undefined)) return undefined;
  for (const path of paths) {
    const found = await stat(path, { bigint: true }).catch(() => undefined);
    const place = found && placeOf(found);
    if (place !== undefined && outputs.includes(place)) return path;
  }
  return undefined;
}

/** What names a file or a block device; undefined for what no sectors are written to. */
function placeOf(found: BigIntStats): string | undefined {
  if (found.isBlockDevice()) return `device ${found.rdev}`;
  return found.isFile() ? `file ${found.dev} ${found.ino}` : undefined;
}
