// kcopyd in a bundle (esbuild's), in a worker, and twice in one process: each is built and run for real, in a folder like the
// one that npm makes, and copies something. docs/GUIDE.md says what is to be done; this holds it to that.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type BuildOptions, build, type Message } from 'esbuild';
import { describe, expect } from 'vitest';
import { run } from './support/command.js';
import { builtBinding, Installed, PLATFORM } from './support/installed.js';
import { randomBytes } from './support/random.js';
import { test } from './support/test.js';
import type { Workshop } from './support/workshop.js';

const MIB = 1 << 20;

/** Copies `source.img` to a file of the given name. */
const COPY = `
  import { Device, KcopydClient } from 'kcopyd';
  export async function copy(name) {
    const to = await Device.open(name, { access: 'write', create: true });
    const client = await KcopydClient.create({ pages: 64 });
    const { bytes } = await client.copy({ device: 'source.img' }, { device: to });
    await Promise.all([client.close(), to.close()]);
    return bytes;
  }`;

const MAIN = `
  import { copy } from './copy.mjs';
  copy('copy.img').then(console.log, ({ code, message }) => console.log(code, message));`;

const WORKER = `
  import { isMainThread, Worker } from 'node:worker_threads';
  import { once } from 'node:events';
  import { fileURLToPath } from 'node:url';
  import { copy } from './copy.mjs';
  if (isMainThread) {
    const worker = new Worker(fileURLToPath(import.meta.url));
    const [here, [code]] = await Promise.all([copy('here.img'), once(worker, 'exit')]);
    console.log(here, code);
  } else {
    await copy('there.img');
  }`;

interface App extends Installed {
  /** Bundles a program of the folder to `bundle.mjs` or `bundle.cjs`; what esbuild warned of. */
  bundle(entry: string, options: BuildOptions): Promise<{ path: string; warnings: Message[] }>;
}

/** A folder with kcopyd installed in it, a program, and a source. */
async function app(workshop: Workshop, main: string): Promise<App> {
  const installed = await Installed.make(workshop);
  const at = (name: string): string => join(installed.directory, name);
  await installed.add(await builtBinding());
  await writeFile(at('copy.mjs'), COPY);
  await writeFile(at('main.mjs'), main);
  await workshop.file({ bytes: MIB, seed: 'source', path: at('source.img') });
  return Object.assign(installed, {
    async bundle(entry: string, options: BuildOptions) {
      const path = at(options.format === 'cjs' ? 'bundle.cjs' : 'bundle.mjs');
      const absWorkingDir = installed.directory;
      const common: BuildOptions = {
        absWorkingDir,
        entryPoints: [entry],
        outfile: path,
        bundle: true,
        platform: 'node',
      };
      const { warnings } = await build({ ...common, logLevel: 'silent', target: 'node20.19', ...options });
      return { path, warnings };
    },
  });
}

async function copied({ directory }: Installed, name: string): Promise<boolean> {
  return randomBytes('source', MIB).equals(await readFile(join(directory, name)));
}

describe('a bundle', () => {
  test.for(['esm', 'cjs'] as const)('with kcopyd outside (%s)', async (format, { workshop }) => {
    const program = await app(workshop, MAIN);
    const { path, warnings } = await program.bundle('main.mjs', { format, external: ['kcopyd'] });
    expect(warnings).toEqual([]);
    expect((await readFile(path, 'utf8')).length).toBeLessThan(5_000);
    const ended = await run(process.execPath, [path], { cwd: program.directory });
    expect(ended).toMatchObject({ code: 0, stdout: `${MIB}\n`, stderr: '' });
    expect(await copied(program, 'copy.img')).toBe(true);
  });

  test.for(['esm', 'cjs'] as const)('with kcopyd inside, its binding beside it (%s)', async (format, { workshop }) => {
    const program = await app(workshop, MAIN);
    const { path, warnings } = await program.bundle('main.mjs', { format });
    expect(warnings).toEqual([]);
    const ended = await run(process.execPath, [path], { cwd: program.directory });
    expect(ended).toMatchObject({ code: 0, stdout: `${MIB}\n`, stderr: '' });
    expect(await copied(program, 'copy.img')).toBe(true);
  });

  test.for(['esm', 'cjs'] as const)(
    'that goes elsewhere alone says what is missing (%s)',
    async (format, { workshop }) => {
      const program = await app(workshop, MAIN);
      const { path } = await program.bundle('main.mjs', { format });
      const alone = workshop.path(format === 'cjs' ? '.cjs' : '.mjs');
      await writeFile(alone, await readFile(path));
      const ended = await run(process.execPath, [alone], { cwd: program.directory });
      expect(ended).toMatchObject({ code: 0, stderr: '' });
      expect(ended.stdout).toMatch(`ERR_KCOPYD_BINDING_NOT_FOUND kcopyd's native part for ${PLATFORM} is not there`);
      // And the binding, wherever it has been put, is named by the environment.
      const binding = workshop.path('.bin');
      await writeFile(binding, await builtBinding());
      const env = { ...process.env, KCOPYD_NATIVE_LIBRARY_PATH: binding };
      const again = await run(process.execPath, [alone], { cwd: program.directory, env });
      expect(again).toMatchObject({ code: 0, stdout: `${MIB}\n`, stderr: '' });
    },
  );
});

describe('a worker', () => {
  test.for(['not bundled', 'bundled'])('copies while the main thread does (%s)', async (how, { workshop }) => {
    const program = await app(workshop, WORKER);
    const bundled = how === 'bundled' ? await program.bundle('main.mjs', { format: 'esm' }) : undefined;
    const path = bundled?.path ?? join(program.directory, 'main.mjs');
    const ended = await run(process.execPath, [path], { cwd: program.directory });
    expect(ended).toMatchObject({ code: 0, stdout: `${MIB} 0\n`, stderr: '' });
    expect([await copied(program, 'here.img'), await copied(program, 'there.img')]).toEqual([true, true]);
  });
});

test('two kcopyds in one process, one in a bundle and one outside, work side by side', async ({ workshop }) => {
  const program = await app(workshop, COPY);
  await program.bundle('main.mjs', { format: 'esm' });
  const ended = await program.run(`
    import { copy as inside } from './bundle.mjs';
    import { copy as outside } from './copy.mjs';
    console.log(...(await Promise.all([inside('inside.img'), outside('outside.img')])));`);
  expect(ended).toMatchObject({ code: 0, stdout: `${MIB} ${MIB}\n`, stderr: '' });
  expect([await copied(program, 'inside.img'), await copied(program, 'outside.img')]).toEqual([true, true]);
});
