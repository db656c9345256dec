// scripts/publish.mjs, with an npm that writes down what it is asked to do, and knows as published what has a file in a folder.
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect } from 'vitest';
import { type Ended, output, run } from './support/command.js';
import { test } from './support/test.js';
import type { Workshop } from './support/workshop.js';

const SCRIPT = fileURLToPath(new URL('../scripts/publish.mjs', import.meta.url));

/** `npm view SPEC` tells of what was published a call ago: registries show things late. */
const NPM = `#!/bin/sh
set -e
cd "$REGISTRY"
case "$1" in
  view)
    name=$(echo "$2" | tr / +)
    if [ -e "$name" ]; then echo 1.2.3; elif [ -e "late.$name" ] && [ -z "$NEVER" ]; then mv "late.$name" "$name"; else exit 1; fi ;;
  publish)
    echo "$@" >> calls
    spec=$(tar -xOzf "$2" package/package.json | sed 's/.*"name":"\\([^"]*\\)","version":"\\([^"]*\\)".*/\\1@\\2/' | tr / +)
    for shown in "$spec" "late.$spec"; do
      [ -e "$shown" ] && { echo "You cannot publish over the previously published versions: 1.2.3." >&2; exit 1; }
    done
    [ "$FAILS" = "$spec" ] && { echo "npm error code E500" >&2; exit 1; }
    touch "late.$spec" ;;
esac
`;

interface Release {
  readonly publish: (env?: NodeJS.ProcessEnv, ...args: readonly string[]) => Promise<Ended>;
  /** The tarballs that npm was asked to publish, in order. */
  readonly published: () => Promise<string[]>;
  readonly add: (file: string, manifest: object) => Promise<void>;
}

const PLATFORMS = ['linux-arm64-gnu', 'linux-x64-gnu'];

/** A folder of tarballs: the root, whose name comes first in the alphabet, and two platforms. */
async function release(workshop: Workshop): Promise<Release> {
  const [directory, registry, bin] = [workshop.path('.tgz'), workshop.path('.registry'), workshop.path('.bin')];
  await Promise.all([directory, registry, bin].map((path) => mkdir(path)));
  await writeFile(join(bin, 'npm'), NPM);
  await chmod(join(bin, 'npm'), 0o755);
  const add = async (file: string, manifest: object): Promise<void> => {
    const home = workshop.path('.package');
    await mkdir(join(home, 'package'), { recursive: true });
    await writeFile(join(home, 'package', 'package.json'), JSON.stringify(manifest));
    await output('tar', ['-czf', join(directory, file), '-C', home, 'package']);
  };
  const named = PLATFORMS.map((platform) => [`@kcopyd/binding-${platform}`, '1.2.3']);
  await add('a-root.tgz', { name: 'kcopyd', version: '1.2.3', optionalDependencies: Object.fromEntries(named) });
  for (const [index, [name, version]] of named.entries()) await add(`b-${PLATFORMS[index]}.tgz`, { name, version });
  const common = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}`, REGISTRY: registry };
  return {
    add,
    publish: (env = {}, ...args) => {
      const all = { ...common, KCOPYD_PUBLISH_WAIT_MS: '2000', ...env };
      // `run` puts the administrators' folders last, so that this npm is found first.
      return run('env', [`PATH=${all.PATH}`, process.execPath, SCRIPT, directory, ...args], { env: all });
    },
    published: async () => {
      const calls = await readFile(join(registry, 'calls'), 'utf8').catch(() => '');
      return calls
        .trim()
        .split('\n')
        .filter(Boolean)
        .map((call) => call.split(' ')[1]!.split('/').at(-1)!);
    },
  };
}

const ALL = ['b-linux-arm64-gnu.tgz', 'b-linux-x64-gnu.tgz', 'a-root.tgz'];

test('the platforms first, the root last', async ({ workshop }) => {
  const { publish, published } = await release(workshop);
  expect(await publish()).toMatchObject({ code: 0, stderr: '' });
  expect(await published()).toEqual(ALL);
});

test('a release that broke off goes on where it was', async ({ workshop }) => {
  const { publish, published } = await release(workshop);
  const broken = await publish({ FAILS: '@kcopyd+binding-linux-x64-gnu@1.2.3' });
  expect(broken).toMatchObject({ code: 1 });
  expect(broken.stderr).toMatch('E500');
  expect(await published()).toEqual(ALL.slice(0, 2));
  // The first one shows itself only when it is asked for.
  const again = await publish();
  expect(again).toMatchObject({ code: 0, stderr: '' });
  expect((await published()).at(-1)).toBe('a-root.tgz');
  expect((await publish()).stdout).toMatch(/(.* is there already\n){3}/);
});

test('the root is not published while the registry does not show what it needs', async ({ workshop }) => {
  const { publish, published } = await release(workshop);
  const ended = await publish({ NEVER: '1' });
  expect(ended).toMatchObject({ code: 1 });
  expect(ended.stderr).toMatch('@kcopyd/binding-linux-arm64-gnu@1.2.3 is published and the registry does not show it');
  expect(await published()).toEqual(ALL.slice(0, 2));
});

test('a dry run publishes nothing', async ({ workshop }) => {
  const { publish, published } = await release(workshop);
  const { stdout } = await publish({}, '--dry-run');
  expect(stdout.split('\n').at(-2)).toBe('would publish kcopyd@1.2.3');
  expect(await published()).toEqual([]);
});

describe('refused before anything is published', () => {
  test.for([
    [
      'a platform that is not there',
      { name: 'kcopyd', version: '1.2.3', optionalDependencies: { '@kcopyd/x': '1.2.3' } },
    ],
    ['another version', { name: 'kcopyd', version: '1.2.4', optionalDependencies: {} }],
    ['nobody who names the others', { name: 'kcopyd', version: '1.2.3' }],
  ] as const)('%s', async ([, manifest], { workshop }) => {
    const { add, publish, published } = await release(workshop);
    await add('a-root.tgz', manifest);
    expect(await publish()).toMatchObject({ code: 1, stdout: '' });
    expect(await published()).toEqual([]);
  });
});
