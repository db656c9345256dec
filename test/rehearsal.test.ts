// The frame of the release's rehearsal: what a step's end means, and that nothing is left however it is broken off.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { run } from './support/command.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
let directory: string;
let steps: string;

beforeAll(async () => {
  await mkdir(join(ROOT, 'target'), { recursive: true });
  directory = await mkdtemp(join(ROOT, 'target', 'rehearsal-test-'));
  const outfile = join(directory, 'steps.mjs');
  await build({
    entryPoints: [join(ROOT, 'scripts/pack/steps.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
  });
  steps = pathToFileURL(outfile).href;
});

afterAll(() => rm(directory, { recursive: true, force: true }));

async function script(text: string): Promise<string> {
  const path = join(directory, `${Math.random().toString(36).slice(2)}.mjs`);
  await writeFile(path, `import { NotHere, Steps } from '${steps}';\nconst steps = new Steps();\n${text}`);
  return path;
}

test('a step that fails ends no other, one that cannot be taken says why, and the exit code tells', async () => {
  const { code, stdout } = await run(process.execPath, [
    await script(`
await steps.take('one', async () => { throw new Error('broken'); });
await steps.take('two', async () => { throw new NotHere('no such machine'); });
await steps.take('three', async () => 'seen');
process.exitCode = steps.summary();`),
  ]);
  expect(code).toBe(1);
  expect(stdout).toContain('failed: one: broken');
  expect(stdout).toContain('skipped: two: no such machine');
  expect(stdout).toMatch(/passed: three: seen \([\d.]+ s\)/);
  expect(stdout.trimEnd().split('\n').at(-1)).toBe('1 passed, 1 failed, 1 skipped');
});

test.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)('%s ends what was started and clears away what was laid out', async (signal, exitCode) => {
  const path = await script(`
import { spawn } from 'node:child_process';
const child = spawn('sleep', ['600'], { stdio: 'ignore' });
steps.atEnd(() => child.kill('SIGKILL'));
console.log(JSON.stringify({ pid: child.pid, directory: steps.directory }));
await steps.take('one that takes long', () => new Promise((resolve) => setTimeout(resolve, 600_000)));`);
  const rehearsal = spawn(process.execPath, [path], { stdio: ['ignore', 'pipe', 'inherit'] });
  const started = JSON.parse(await firstLine(rehearsal)) as { pid: number; directory: string };
  expect(existsSync(started.directory)).toBe(true);
  const ended = new Promise((resolve) => rehearsal.once('exit', resolve));
  rehearsal.kill(signal);
  expect(await ended).toBe(exitCode);
  expect(existsSync(started.directory)).toBe(false);
  await expect.poll(() => isAlive(started.pid), { timeout: 10_000 }).toBe(false);
});

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve) =>
    child.stdout?.once('data', (data: Buffer) => resolve(data.toString().split('\n')[0] ?? '')),
  );
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
