// `npm run bump`: the version is one, wherever it stands. Run on a copy of the files that it stands in, in a folder of its own.
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect } from 'vitest';
import { type Ended, run } from './support/command.js';
import { test } from './support/test.js';
import type { Workshop } from './support/workshop.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FILES = ['package.json', 'package-lock.json', 'Cargo.toml', 'Cargo.lock', 'src/version.ts', 'CHANGELOG.md'];

interface Checkout {
  readonly text: (file: string) => Promise<string>;
  readonly write: (file: string, text: string) => Promise<void>;
  readonly bump: (...args: readonly string[]) => Promise<Ended>;
}

/** The files as they are. */
async function checkout(workshop: Workshop): Promise<Checkout> {
  const directory = workshop.path('.checkout');
  const write = async (file: string, text: string): Promise<void> => {
    await mkdir(dirname(join(directory, file)), { recursive: true });
    await writeFile(join(directory, file), text);
  };
  for (const file of FILES) await cp(join(ROOT, file), join(directory, file), { recursive: true });
  const text = (file: string): Promise<string> => readFile(join(directory, file), 'utf8');
  const { version } = JSON.parse(await text('package.json')) as { version: string };
  await write('CHANGELOG.md', `# Changelog\n\n## Unreleased\n\n- News.\n\n## ${version} - 2026-01-01\n\n- Old.\n`);
  const script = join(ROOT, 'scripts', 'bump.mjs');
  return { text, write, bump: (...args) => run(process.execPath, [script, '--at', directory, ...args]) };
}

test('one command changes it everywhere, and nothing else', async ({ workshop }) => {
  const { text, bump } = await checkout(workshop);
  const files = FILES.filter((file) => file !== 'CHANGELOG.md');
  const before = await Promise.all(files.map(text));
  expect(await bump('77.8.9')).toMatchObject({ code: 0, stderr: '' });
  const after = await Promise.all(files.map(text));
  const changed = after.map((now, index) => {
    const lines = before[index]!.split('\n');
    return now.split('\n').filter((line, number) => line !== lines[number]);
  });
  // The lock files have several entries of ours.
  expect(changed.map(({ length }) => length)).toEqual([1, 2, 1, 3, 1]);
  for (const line of changed.flat()) expect(line).toMatch('77.8.9');
  const today = new Date().toISOString().slice(0, 10);
  expect(await text('CHANGELOG.md')).toMatch(`## Unreleased\n\n## 77.8.9 - ${today}\n\n- News.\n\n## `);
  expect(await bump('--check', '--tag', 'v77.8.9')).toMatchObject({
    code: 0,
    stdout: '77.8.9 in 10 places\n',
    stderr: '',
  });
});

test.for([
  ['patch', '1.2.4'],
  ['minor', '1.3.0'],
  ['major', '2.0.0'],
  ['1.3.0-rc.1', '1.3.0-rc.1'],
] as const)('%s of 1.2.3 is %s', async ([wanted, version], { workshop }) => {
  const { text, bump, write } = await checkout(workshop);
  await bump('1.2.3');
  await write('CHANGELOG.md', '# Changelog\n\n## Unreleased\n\n- News.\n\n## 1.2.3 - 2026-01-01\n');
  expect(await bump(wanted)).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(await text('package.json'))).toMatchObject({ version });
  expect(await bump('--check')).toMatchObject({ code: 0 });
});

describe('what does not agree is found', () => {
  test.for(FILES)('in %s', async (file, { workshop }) => {
    const { text, bump, write } = await checkout(workshop);
    await bump('77.8.9');
    await write(file, (await text(file)).replace('77.8.9', '77.8.8'));
    const ended = await bump('--check');
    expect(ended.code).toBe(1);
    // package.json is what the others are held to: if it is wrong, they all are.
    expect(ended.stderr).toMatch(file === 'package.json' ? 'Cargo.toml' : file);
    expect(ended.stderr).toMatch('77.8.8');
  });

  test('in the tag', async ({ workshop }) => {
    const { bump } = await checkout(workshop);
    await bump('77.8.9');
    expect(await bump('--check', '--tag', 'v77.8.8')).toMatchObject({ code: 1 });
  });
});

describe('refused, and nothing changes', () => {
  test.for([
    ['no version', ['1.2'], '1.2 is no version'],
    ['nothing', [], 'npm run bump -- VERSION'],
  ] as const)('%s', async ([, args, words], { workshop }) => {
    const { text, bump } = await checkout(workshop);
    const before = await text('package.json');
    const ended = await bump(...args);
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(ended.stderr).toMatch(words);
    expect(await text('package.json')).toBe(before);
  });

  test('a release that has nothing to say', async ({ workshop }) => {
    const { text, bump, write } = await checkout(workshop);
    await write('CHANGELOG.md', '# Changelog\n\n## Unreleased\n\n## 0.0.1 - 2026-01-01\n\n- Old.\n');
    const before = await text('Cargo.toml');
    expect(await bump('patch')).toMatchObject({ code: 1, stdout: '' });
    expect(await text('Cargo.toml')).toBe(before);
  });
});
