// The one place that looks behind the public door: names of errnos, which no device here gives on demand, and bounds that two
// languages must agree on.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { getSystemErrorMap } from 'node:util';
import { expect, test } from 'vitest';
import { errnoMeaning, errnoName } from '../src/errno.js';
import * as limits from '../src/limits.js';

test('every errno of Linux has its name', () => {
  // Python knows the C library's own list. Two names of one number are told apart by which Node or the kernel prefers.
  const script = 'import errno, json; print(json.dumps({n: v for n, v in vars(errno).items() if n.startswith("E")}))';
  let listed: Record<string, number>;
  try {
    listed = JSON.parse(execFileSync('python3', ['-c', script], { encoding: 'utf8' })) as Record<string, number>;
  } catch {
    listed = { EIO: 5, EBADE: 52, EBADMSG: 74, ESTALE: 116, EUCLEAN: 117, ENOMEDIUM: 123, ENOTRECOVERABLE: 131 };
  }
  const byNumber = new Map<number, string[]>();
  for (const [name, number] of Object.entries(listed)) byNumber.set(number, [...(byNumber.get(number) ?? []), name]);
  for (const [number, names] of byNumber) expect(names, String(number)).toContain(errnoName(number));
});

test('what storage answers with and Node has no name for', () => {
  const names = { EBADE: 52, EBADMSG: 74, ESTALE: 116, EUCLEAN: 117, ENOMEDIUM: 123, ENOTRECOVERABLE: 131 };
  for (const [name, number] of Object.entries(names)) {
    expect(getSystemErrorMap().has(-number)).toBe(false);
    expect(errnoName(number)).toBe(name);
  }
  expect([errnoName(5), errnoMeaning(5)]).toEqual(['EIO', 'i/o error']);
  expect([errnoName(4000), errnoMeaning(4000)]).toEqual(['UNKNOWN', 'unknown system error 4000']);
});

test('the bounds are those of the core', () => {
  const core = readFileSync(new URL('../crates/kcopyd/src/copy/limits.rs', import.meta.url), 'utf8');
  // `PAGE_BYTES / SECTOR_BYTES`, `1 << 20` and `16_384` mean the same here and there.
  const known = new Map<string, number>();
  for (const [, name, written] of core.matchAll(/pub const (\w+): \w+ = ([\w\s*/<()-]+);/g)) {
    const value = Function(...known.keys(), `return ${written!.replaceAll(/ as \w+/g, '')}`) as (
      ...values: number[]
    ) => number;
    known.set(name!, value(...known.values()));
  }
  for (const [name, value] of Object.entries(limits)) expect(known.get(name), name).toBe(value);
});
