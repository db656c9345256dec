// The packages as they are published: what is in them, and that the gate before a registry sees what must not get there. It packs
// the binary that `npm run build` made; the rehearsal (`npm run pack:all`) has those of a release.
import { appendFile, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Inspection, inspect } from '../scripts/pack/gate.js';
import { choose, type Platform, platformsOf, readManifest } from '../scripts/pack/platforms.js';
import { pack } from '../scripts/pack/stage.js';
import { output } from './support/command.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
const manifest = readManifest(ROOT);
const [host] = choose(platformsOf(manifest), ['host']) as [Platform];
const musl = platformsOf(manifest).find(({ cpu, libc }) => cpu === host.cpu && libc === 'musl') as Platform;

let directory: string;
let platformTarball: string;
let rootTarball: string;

beforeAll(async () => {
  await mkdir(join(ROOT, 'target'), { recursive: true });
  directory = await mkdtemp(join(ROOT, 'target', 'package-'));
  const binaries = new Map([[host, join(ROOT, 'native', host.binary)]]);
  [platformTarball = '', rootTarball = ''] = await pack({ root: ROOT, into: directory, binaries });
});

afterAll(() => rm(directory, { recursive: true, force: true }));

/** What the gate says of these tarballs. */
async function problems(tarballs: readonly string[], other: Partial<Inspection> = {}): Promise<string> {
  const inspection = { root: ROOT, tarballs, platforms: [host], glibcMax: null, ...other };
  return (await inspect(inspection)).problems.join('\n');
}

/** A tarball with something changed in it. */
async function spoiled(tarball: string, change: (folder: string) => Promise<void>): Promise<string> {
  const top = await mkdtemp(join(directory, 'spoiled-'));
  await output('tar', ['-xzf', tarball, '-C', top]);
  await change(join(top, 'package'));
  await output('tar', ['-czf', join(top, 'spoiled.tgz'), '-C', top, 'package']);
  return join(top, 'spoiled.tgz');
}

/** The same, in its package.json. */
async function changeManifest(folder: string, change: Record<string, unknown>): Promise<void> {
  const path = join(folder, 'package.json');
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, 'utf8')), ...change }));
}

test('the packages have what they should and nothing else, and linters have nothing to say', async () => {
  expect(await problems([platformTarball, rootTarball])).toBe('');
  const listed = await output('tar', ['-tzf', rootTarball]);
  const tops = new Set(
    listed.split('\n').map((path) =>
      path
        .split('/')
        .slice(0, 3)
        .join('/')
        .replace(/[^/]+\.(d\.ts|js)$/, '*.$1'),
    ),
  );
  const read = ['package.json', 'README.md', 'CHANGELOG.md', 'LICENSE', 'THIRD-PARTY-NOTICES.md'].map(
    (name) => `package/${name}`,
  );
  const built = ['package/dist/*.d.ts', 'package/dist/*.js', 'package/dist/cli', 'package/dist/src'];
  expect([...tops].filter((path) => ![...read, ...built].includes(path))).toEqual([]);
});

test('the checkout names no platform package, so that npm ci does not ask for unpublished ones', () => {
  expect(manifest).not.toHaveProperty('optionalDependencies');
  expect(manifest).not.toHaveProperty('dependencies');
});

test('the gate sees a package that is not there', async () => {
  expect(await problems([rootTarball])).toContain(`${host.packageName}: there is no tarball of it`);
  expect(await problems([platformTarball])).toContain('kcopyd: there is no tarball of it');
});

test('the gate sees what is wrong with the root', async () => {
  const tarball = await spoiled(rootTarball, async (folder) => {
    await changeManifest(folder, {
      version: '9.9.9',
      os: ['linux'],
      scripts: { postinstall: 'node build.js' },
      dependencies: { lodash: '1' },
      optionalDependencies: { [host.packageName]: `^${manifest.version}` },
    });
    await writeFile(join(folder, 'dist', 'left.over.js'), '');
    await writeFile(join(folder, host.binary), '');
    await rm(join(folder, 'dist', 'index.d.ts'));
  });
  const found = await problems([platformTarball, tarball]);
  for (const text of [
    'version 9.9.9',
    'package.json has os',
    'package.json has scripts',
    'package.json has dependencies',
  ]) {
    expect(found).toContain(text);
  }
  expect(found).toContain('optionalDependencies are');
  expect(found).toContain('has dist/left.over.js, which nobody asked for');
  expect(found).toContain(`has ${host.binary}, which nobody asked for`);
  expect(found).toContain('has no dist/index.d.ts');
  expect(found).toContain('are the types wrong');
});

test('the gate sees a platform package for another place, and one that is too large', async () => {
  const tarball = await spoiled(platformTarball, async (folder) => {
    await changeManifest(folder, { cpu: ['riscv64'], libc: undefined, optionalDependencies: { left: '1' } });
    await appendFile(join(folder, host.binary), Buffer.alloc(1 << 20));
  });
  const found = await problems([tarball, rootTarball]);
  expect(found).toContain('cpu ["riscv64"], not');
  expect(found).toContain('package.json has libc undefined, not');
  expect(found).toContain('package.json has optionalDependencies');
  expect(found).toContain('the limit is 1,048,576 bytes');
});

test('the gate sees a binary for another processor', async () => {
  const tarball = await spoiled(platformTarball, async (folder) => {
    const path = join(folder, host.binary);
    const binary = await readFile(path);
    // The machine's number in the header of the file.
    binary.writeUInt16LE(host.cpu === 'x64' ? 183 : 62, 18);
    await writeFile(path, binary);
  });
  expect(await problems([tarball, rootTarball])).toMatch(/is for (x64|arm64), not for/);
});

test('the gate sees a binary of glibc in a package for musl', async () => {
  const tarball = await spoiled(platformTarball, async (folder) => {
    await changeManifest(folder, { name: musl.packageName, libc: ['musl'], main: musl.binary, files: [musl.binary] });
    await cp(join(folder, host.binary), join(folder, musl.binary));
    await rm(join(folder, host.binary));
  });
  const found = await problems([tarball, rootTarball], { platforms: [musl] });
  expect(found).toContain(`${musl.binary} needs libc.so.6`);
  expect(found).toMatch(/asks for glibc 2\.\d+/);
});

test('the gate sees a glibc that is too new, and what a developer’s build leaves in a binary', async () => {
  expect(await problems([platformTarball, rootTarball], { glibcMax: [2, 0] })).toMatch(
    /asks for glibc 2\.\d+, the limit is 2\.0/,
  );
  const tarball = await spoiled(platformTarball, async (folder) => {
    const source = join(folder, '..', 'other.c');
    await writeFile(source, 'int kcopyd_other(void) { return 1; }\n');
    const flags = ['-shared', '-fPIC', '-g', '-nostdlib', '-Wl,-rpath,/home/developer/lib', '-Wl,-z,execstack'];
    await output('cc', [...flags, source, '-o', join(folder, host.binary)]);
  });
  const found = await problems([tarball, rootTarball]);
  expect(found).toMatch(/is not stripped: it has .*\.symtab/);
  expect(found).toContain('exports no napi_register_module_v1');
  expect(found).toContain('has a search path for libraries');
  expect(found).toContain('asks for an executable stack');
  expect(found).toContain('asks for no glibc');
});

test('the gate sees a function that the glibc linked against did not have', async () => {
  const tarball = await spoiled(platformTarball, async (folder) => {
    const source = join(folder, '..', 'other.c');
    await writeFile(source, 'int kcopyd_newer(void);\nint napi_register_module_v1(void) { return kcopyd_newer(); }\n');
    await output('cc', ['-shared', '-fPIC', '-s', source, '-o', join(folder, host.binary)]);
  });
  expect(await problems([tarball, rootTarball])).toContain('asks for kcopyd_newer of no version of glibc');
});
