// The benchmark as a program: what it refuses, what it makes of figures, and that nothing of it is left. Its figures are not
// tested: they are measured.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { CommanderError } from 'commander';
import { describe, expect, test, vi } from 'vitest';
import { readArguments } from '../bench/arguments.js';
import { median, summarizeAll } from '../bench/numbers.js';
import { place } from '../bench/places.js';
import { type Row, ratio } from '../bench/rounds.js';
import { command, timed, together } from '../bench/timed.js';
import { hasLoop, programs } from './support/machine.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const CASES = ['copy-1to1', 'jobs-4k'];

function refusal(...argv: string[]): string {
  let printed = '';
  const write = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    printed += String(text);
    return true;
  });
  try {
    readArguments(argv, CASES);
  } catch (error) {
    expect((error as CommanderError).exitCode).toBe(2);
    return printed;
  } finally {
    write.mockRestore();
  }
  throw new Error(`${argv.join(' ')} was not refused`);
}

describe('its arguments', () => {
  test('name cases and say how', () => {
    const wishes = readArguments(['copy-1to1', '--runs', '9', '--size', '512M', '--only', 'dd,kcopyd'], CASES);
    expect(wishes).toMatchObject({ cases: ['copy-1to1'], runs: 9, size: 2 ** 29, only: ['dd', 'kcopyd'], client: {} });
    expect(readArguments(['--pages', '64', '--engine', 'threads'], CASES).client).toEqual({
      pages: 64,
      engine: 'threads',
    });
  });

  test('never name a device', () => {
    expect(refusal('/dev/sda')).toContain('/dev/sda is not touched');
    expect(refusal('package.json')).toContain('package.json is not touched');
  });

  test.each([
    [['nonsense'], 'There is no case nonsense; there are copy-1to1, jobs-4k'],
    [['--runs', '0'], 'whole number from 1'],
    [['--runs', '2.5'], 'whole number'],
    [['--size', '1'], 'multiple of 16M'],
    [['--size', '17M'], 'multiple of 16M'],
    [['--jobs', '3000'], 'power of two'],
    [['--engine', 'steam'], 'auto, io_uring or threads'],
    [['--depht', '4'], '--depth'],
  ])('%j are refused', (argv, why) => {
    expect(refusal(...argv)).toContain(why);
  });
});

describe('its arithmetic', () => {
  test('takes the middle of the runs', () => {
    expect(median([9, 1, 5])).toBe(5);
    expect(median([9, 1, 5, 6])).toBe(5.5);
    expect(() => median([])).toThrow(RangeError);
    expect(summarizeAll([{ a: 1, b: 2 }, { a: 3 }])).toEqual({ a: { median: 2, min: 1, max: 3, runs: 2 } });
  });

  test('compares within a round, with whoever was best in it', () => {
    const row = (name: string, ...rates: number[]): Row => {
      return { name, role: 'peer', detail: '', samples: rates.map((rate) => ({ rate })), summary: {} };
    };
    const ours = row('ours', 10, 30, 4);
    expect(ratio(ours, [row('a', 5, 10, 4), row('b', 2, 15, 1)], 'rate', 'largest')).toBe(2);
    expect(ratio(ours, [row('a', 5, 10, 4)], 'rate', 'smallest')).toBe(2);
  });

  test.each([1, 2, 1024, 65_536])('visits each of %i pages once', (pages) => {
    const visited = new Set(Array.from({ length: pages }, (_, job) => place(job + pages, pages)));
    expect(visited.size).toBe(pages);
    expect(Math.max(...visited)).toBe(pages - 1);
  });
});

describe('its stopwatch', () => {
  test('counts children and fails with the first of several that fails', async () => {
    const burn = command('bash', '-c', 'for ((i = 0; i < 200000; i++)); do :; done');
    const { seconds, cpuSeconds } = await timed(together(burn, burn));
    expect(cpuSeconds).toBeGreaterThan(0.05);
    expect(seconds).toBeGreaterThan(0);
    await expect(timed(together(command('true'), command('false')))).rejects.toThrow('exit 1');
  });
});

function loopsOf(pid: number): string[] {
  const loops = readdirSync('/sys/block').filter((name) => name.startsWith('loop'));
  return loops.filter((name) => {
    try {
      return readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').includes(`kcopyd-${pid}-`);
    } catch {
      return false;
    }
  });
}

test('Ctrl-C leaves nothing behind', async ({ skip }) => {
  for (const facility of [await hasLoop(), programs('dd', 'cmp')]) if (!facility.available) skip(facility.reason);
  const args = [
    'scripts/bench.mjs',
    'copy-1to1',
    '--only',
    'dd',
    '--size',
    '64M',
    '--calm',
    '0',
    '--no-install',
    '--runs',
    '1000',
  ];
  const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  const pid = child.pid!;
  // Asked for now, because it may end at any moment; and its output is read to the end, or it would end by EPIPE.
  const exited = once(child, 'exit') as Promise<[number | null]>;
  await new Promise<void>((resolve) => {
    let printed = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
      if (printed.includes('run 1/')) resolve();
    });
  });
  expect(loopsOf(pid)).toHaveLength(2);
  child.kill('SIGINT');
  const [code] = await exited;
  expect(code).toBe(130);
  expect(readdirSync('/dev/shm').filter((name) => name.startsWith(`kcopyd-${pid}-`))).toEqual([]);
  // The program that was running may still hold one: it is let go when that ends, which it does by itself.
  await expect.poll(() => loopsOf(pid), { timeout: 20_000 }).toEqual([]);
}, 120_000);
