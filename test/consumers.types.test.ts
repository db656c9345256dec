// The declarations as a user's compiler reads them: an installed kcopyd, a program that uses it, and the settings that people have;
// libraries are checked too. The compiler is ours, and TypeScript 6 where `npm run check` has installed it.
import { existsSync } from 'node:fs';
import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect } from 'vitest';
import { run } from './support/command.js';
import { Installed } from './support/installed.js';
import { test } from './support/test.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const COMPILERS = [
  ['TypeScript 7', join(ROOT, 'node_modules/typescript/bin/tsc')],
  ['TypeScript 6', join(ROOT, 'scripts/api/node_modules/typescript/bin/tsc')],
] as const;

const PROGRAM = `
  import { Device, KcopydClient, KcopydError, type Outcome, support, Throttle } from 'kcopyd';
  export async function backup(from: string, to: string[]): Promise<Outcome | undefined> {
    const throttle = new Throttle({ bytesPerSecond: 1_000_000 });
    const client = await KcopydClient.create({ throttle, engine: support().engine ?? 'auto' });
    const devices = await Promise.all(to.map((path) => Device.open(path, { access: 'write', create: true })));
    try {
      return await client.copy({ device: from }, devices.map((device) => ({ device })), { flush: true });
    } catch (error) {
      if (error instanceof KcopydError) return error.outcome;
      throw error;
    } finally {
      await Promise.all([client, ...devices].map((each) => each[Symbol.asyncDispose]()));
    }
  }`;

const SETTINGS = [
  ['modules of Node', 'main.mts', { module: 'nodenext' }],
  ['CommonJS that requires it', 'main.cts', { module: 'nodenext' }],
  ['a bundler', 'main.ts', { module: 'esnext', moduleResolution: 'bundler' }],
  [
    'every strict setting',
    'main.mts',
    { module: 'nodenext', exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true },
  ],
] as const;

describe.each(COMPILERS)('%s', (name, compiler) => {
  // The older one takes ten seconds each time.
  test.for(name === 'TypeScript 7' ? SETTINGS : SETTINGS.slice(0, 1))(
    'with %s',
    async ([, file, settings], { workshop, skip }) => {
      if (!existsSync(compiler)) return skip('not installed: npm run check installs it');
      const installed = await Installed.make(workshop);
      const at = (name: string): string => join(installed.directory, name);
      await symlink(join(ROOT, 'node_modules/@types'), at('node_modules/@types'));
      // What the types of Node need beside them.
      await symlink(join(ROOT, 'node_modules/undici-types'), at('node_modules/undici-types'));
      await writeFile(at(file), PROGRAM);
      const common = { target: 'es2022', strict: true, noEmit: true, skipLibCheck: false, types: ['node'] };
      await writeFile(
        at('tsconfig.json'),
        JSON.stringify({ compilerOptions: { ...common, ...settings }, files: [file] }),
      );
      const ended = await run(process.execPath, [compiler, '-p', '.'], { cwd: installed.directory, timeoutMs: 60_000 });
      expect(ended).toEqual({ code: 0, signal: null, stdout: '', stderr: '' });
    },
  );
});
