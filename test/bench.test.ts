// The benchmark as a program: what it refuses, what it makes of figures, and that nothing of it is left. Its figures are not
// tested: they are measured.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CommanderError } from 'commander';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { readArguments } from '../bench/arguments.js';
import { chosen } from '../bench/case.js';
import { withThrottledWrites } from '../bench/cgroup.js';
import { median, summarizeAll } from '../bench/numbers.js';
import { place } from '../bench/places.js';
import { plot } from '../bench/plot.js';
import { type Ground, type Row, ratio, rounds } from '../bench/rounds.js';
import { command, timed, together } from '../bench/timed.js';
import { hasLoop, programs } from './support/machine.js';
import { Workshop } from './support/workshop.js';

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

  test('name contenders, some of which have a comma in their name', () => {
    const all = ['dd', 'core, 100 queued', 'core, 10000 queued'].map((name) => ({ name }));
    const of = (only: string): string[] => {
      const wishes = readArguments(['--only', only], CASES);
      return chosen(all, wishes.only).map(({ name }) => name);
    };
    expect(of('core, 100 queued')).toEqual(['core, 100 queued']);
    expect(of('dd,core, 10000 queued')).toEqual(['dd', 'core, 10000 queued']);
    expect(() => of('core')).toThrow('--only names none of dd, core, 100 queued');
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

describe('its rounds', () => {
  const ground = (events: string[]): Ground => ({
    spoil: async () => void events.push('spoilt'),
    compare: async () => void events.push('compared'),
    sourceBytesRead: () => events.filter((event) => event === 'read').length * 4096,
  });
  const options = { runs: 2, calmMs: 0, warmUps: 0, say: () => undefined };

  test('spoil before each run, compare after it, and tell how often the source was read', async () => {
    const events: string[] = [];
    const reader = (name: string, reads: number) => ({
      name,
      role: 'peer' as const,
      run: async () => {
        for (let read = 0; read < reads; read++) events.push('read');
        return { bytes: 4096, seconds: 1 };
      },
    });
    const rows = await rounds([reader('once', 1), reader('twice', 2)], ground(events), options);
    expect(rows.map(({ summary }) => summary.sourceReads?.median)).toEqual([1, 2]);
    expect(events.join(' ')).toMatch(/^(spoilt( read)+ compared ?){4}$/);
  });

  test('end with the first run that is no copy', async () => {
    const bad: Ground = { spoil: async () => undefined, compare: () => Promise.reject(new Error('differs')) };
    const one = { name: 'one', role: 'peer' as const, run: async () => ({ bytes: 1, seconds: 1 }) };
    await expect(rounds([one], bad, options)).rejects.toThrow('differs');
    await expect(rounds([{ ...one, isNoCopy: true }], bad, options)).resolves.toHaveLength(1);
  });
});

describe('its drawings', () => {
  const summary = { bytesPerSecond: { median: 2e9, min: 1e9, max: 3e9, runs: 1 } };
  const rows: Row[] = [
    { name: 'kcopyd', role: 'kcopyd', detail: '', samples: [{ bytesPerSecond: 2e9 }], summary },
    { name: 'a < b', role: 'ceiling', detail: '', samples: [{ bytesPerSecond: 1e9 }], summary },
  ];

  test('name every contender and its median', () => {
    const svg = plot('a title', rows, ['bytesPerSecond'])!;
    expect(svg).toMatch(/^<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/);
    for (const text of ['a title', '>kcopyd<', 'a &lt; b (ceiling)', '>2000<', 'MB/s']) expect(svg).toContain(text);
  });

  test('are none where there is nothing to draw', () => {
    expect(plot('a title', rows, ['residentBytes'])).toBeUndefined();
    expect(plot('a title', [], ['bytesPerSecond'])).toBeUndefined();
  });
});

test('its throttled group is removed with what made it, processes and all', async ({ skip }) => {
  const loops = await hasLoop();
  if (!loops.available) skip(loops.reason);
  const groups = ['blkio', ''].map((name) => join('/sys/fs/cgroup', name));
  if (!groups.some((group) => existsSync(join(group, 'blkio.throttle.write_bps_device')) || hasIo(group))) {
    skip('no control groups that throttle devices');
  }
  const workshop = new Workshop();
  onTestFinished(() => workshop.dispose());
  const { path } = await workshop.loop({ bytes: 1 << 20 });
  let group = '';
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  onTestFinished(() => void child.kill());
  const body = async (directory: string): Promise<void> => {
    group = directory;
    const bounds = readdirSync(group).filter((name) => /^(io\.max|blkio\.throttle\.write_bps_device)$/.test(name));
    expect(bounds.map((name) => readFileSync(join(group, name), 'utf8')).join()).toContain('1048576');
    writeFileSync(join(group, 'cgroup.procs'), String(child.pid));
    throw new Error('on the way');
  };
  await expect(withThrottledWrites(path, 1 << 20, body)).rejects.toThrow('on the way');
  expect(existsSync(group)).toBe(false);
  expect(child.exitCode).toBeNull();
});

function hasIo(group: string): boolean {
  const controllers = join(group, 'cgroup.controllers');
  return existsSync(controllers) && readFileSync(controllers, 'utf8').split(/\s+/).includes('io');
}

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

test.for([
  { name: 'copy-1to1', more: ['--only', 'dd'], until: 'run 1/', loops: 2 },
  { name: 'slow-destination', more: [], until: 'warm-up: alone', loops: 6 },
])('Ctrl-C leaves nothing of $name behind', { timeout: 120_000 }, async ({ name, more, until, loops }, { skip }) => {
  for (const facility of [await hasLoop(), programs('dd', 'cmp')]) if (!facility.available) skip(facility.reason);
  const args = ['scripts/bench.mjs', name, ...more, '--size', '64M', '--calm', '0', '--no-install', '--runs', '1000'];
  const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  const pid = child.pid!;
  // Asked for now, because it may end at any moment; and its output is read to the end, or it would end by EPIPE.
  const exited = once(child, 'exit') as Promise<[number | null]>;
  let printed = '';
  await new Promise<void>((resolve) => {
    const read = (text: string): void => {
      printed += text;
      if (printed.includes(until)) resolve();
    };
    child.stdout.setEncoding('utf8').on('data', read);
    child.stderr.setEncoding('utf8').on('data', read);
    void exited.then(() => resolve());
  });
  if (printed.includes('no control groups that throttle')) skip('no control groups that throttle devices');
  expect(printed).toContain(until);
  expect(loopsOf(pid)).toHaveLength(loops);
  child.kill('SIGINT');
  const [code] = await exited;
  expect(code).toBe(130);
  expect(readdirSync('/dev/shm').filter((name) => name.startsWith(`kcopyd-${pid}-`))).toEqual([]);
  const groups = ['/sys/fs/cgroup', '/sys/fs/cgroup/blkio'].filter(existsSync).flatMap((path) => readdirSync(path));
  expect(groups).not.toContain(`kcopyd-bench-${pid}`);
  // The program that was running may still hold one: it is let go when that ends, which it does by itself.
  await expect.poll(() => loopsOf(pid), { timeout: 20_000 }).toEqual([]);
});
