// Where the command's own words go: a destination must not be there too, or the report would be written over what was copied.
import { type BigIntStats, fstatSync, statSync } from 'node:fs';

/** The first of these paths that leads to where standard output or standard error goes; undefined if none does. */
export function ownOutput(paths: readonly string[]): string | undefined {
  const outputs = [1, 2].flatMap((descriptor) => placeOf(() => fstatSync(descriptor, { bigint: true })));
  return paths.find((path) => placeOf(() => statSync(path, { bigint: true })).some((place) => outputs.includes(place)));
}

/** What names a file or a block device; nothing for what no sectors are written to, or what is not there. */
function placeOf(look: () => BigIntStats): string[] {
  try {
    const found = look();
    if (found.isBlockDevice()) return [`device ${found.rdev}`];
    return found.isFile() ? [`file ${found.dev} ${found.ino}`] : [];
  } catch {
    return [];
  }
}
