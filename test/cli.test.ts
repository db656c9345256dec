// The command as it is installed, in a process of its own: what it prints, what it exits with, what it leaves behind.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { chmod, readFile, stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect } from 'vitest';
import { type Ended, run } from './support/command.js';
import type { FaultyFile } from './support/faulty.js';
import { programs } from './support/machine.js';
import { randomBytes } from './support/random.js';
import { test } from './support/test.js';
import type { Workshop } from './support/workshop.js';

const COMMAND = fileURLToPath(new URL('../dist/cli/kcopyd.js', import.meta.url));
const MIB = 1 << 20;
const SECTORS_OF_MIB = MIB / 512;

function kcopyd(...args: readonly string[]): Promise<Ended> {
  return run(process.execPath, [COMMAND, ...args]);
}

/** The lines of `--json`. */
// biome-ignore lint/suspicious/noExplicitAny: the lines are of several kinds, and each test says what it expects of them.
function lines({ stdout }: Ended): any[] {
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

/** A copy with --json that takes seconds: the source answers each read late. */
async function slowCopy(workshop: Workshop): Promise<{ child: ChildProcess; slow: FaultyFile; destination: string }> {
  const file = await workshop.file({ bytes: 64 * MIB, seed: 'slow' });
  const slow = await workshop.faulty({ kind: 'slow', file, readMs: 50 });
  const destination = await workshop.file({ bytes: 0 });
  const args = [COMMAND, 'copy', '--json', '--pages', '256', slow.path, destination];
  return { child: spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] }), slow, destination };
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ''; // closed meanwhile
  }
}

/** Hands over each line that a program prints, the first of each kind only, until it ends; how it ended. */
async function reading(
  child: ChildProcess,
  first: (line: string) => void,
): Promise<{ lines: string[]; ended: unknown[] }> {
  const ended = once(child, 'close');
  const [seen, kinds] = [[] as string[], new Set<string>()];
  for await (const line of createInterface({ input: child.stdout as Readable })) {
    seen.push(line);
    const { type } = JSON.parse(line) as { type: string };
    if (!kinds.has(type)) first(line);
    kinds.add(type);
  }
  return { lines: seen, ended: await ended };
}

describe('usage', () => {
  test.for([
    '',
    'copy',
    'copy only-a-source',
    'copy --sector -1 a b',
    'copy --count 1.5 a b',
    'copy --engine warp a b',
    'copy --frobnicate a b',
    'copy --pages 0 a b',
    'copy --sub-job-sectors 7 a b',
    `copy a ${'b '.repeat(33)}`,
    'move a b',
  ])('wrong usage is exit code 2 and said on standard error: kcopyd %s', async (words) => {
    const args = words.split(' ').filter((word) => word !== '');
    const { code, stdout, stderr } = await kcopyd(...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).not.toBe('');
  });

  test('help and version are exit code 0 and said on standard output', async () => {
    const { version } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8'));
    expect(await kcopyd('--version')).toMatchObject({ code: 0, stdout: `${version}\n`, stderr: '' });
    for (const args of [['--help'], ['copy', '--help'], ['info', '--help']]) {
      const { code, stdout } = await kcopyd(...args);
      expect(code).toBe(0);
      expect(stdout).toContain('Usage: kcopyd');
    }
  });
});

describe('copy', () => {
  test('every destination is complete: exit code 0, a line for each, nothing on standard error', async ({
    workshop,
  }) => {
    const source = await workshop.file({ bytes: 3 * MIB + 100, seed: 'copy' });
    const [one, two] = [await workshop.file({ bytes: 0 }), workshop.path()];
    const { code, stdout, stderr } = await kcopyd('copy', '--create', source, one, two);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const destination of [one, two]) {
      expect(stdout).toMatch(new RegExp(`^${destination} .* complete, flushed$`, 'm'));
      expect(await readFile(destination)).toEqual(await readFile(source));
    }
  });

  test('between block devices of both logical blocks', async ({ workshop }) => {
    const source = await workshop.loop({ bytes: 4 * MIB, seed: 'devices' });
    const one = await workshop.loop({ bytes: 4 * MIB });
    const two = await workshop.loop({ bytes: 5 * MIB, sectorSize: 4096 });
    expect(await kcopyd('copy', source.path, one.path, two.path)).toMatchObject({ code: 0, stderr: '' });
    const bytes = randomBytes('devices', 4 * MIB);
    expect(await readFile(one.path)).toEqual(bytes);
    expect((await readFile(two.path)).subarray(0, 4 * MIB)).toEqual(bytes);
  });

  test('--sector is of the source, --destination-sector of the destinations, --count of both', async ({ workshop }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'part' });
    const destination = await workshop.file({ bytes: MIB });
    const args = ['--sector', '5', '--count', '100', '--destination-sector', '7', '--no-flush'];
    const { code, stdout } = await kcopyd('copy', ...args, source, destination);
    expect(code).toBe(0);
    expect(stdout).toContain('complete, not flushed');
    const expected = Buffer.alloc(MIB);
    randomBytes('part', MIB).copy(expected, 7 * 512, 5 * 512, 105 * 512);
    expect(await readFile(destination)).toEqual(expected);
  });

  test('without --create a file that is not there is refused, and told how to be made', async ({ workshop }) => {
    const source = await workshop.file({ bytes: MIB });
    const missing = workshop.path();
    const { code, stdout, stderr } = await kcopyd('copy', source, missing);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain('ENOENT');
    expect(stderr).toContain('--create');
    expect(existsSync(missing)).toBe(false);
  });

  test('a destination that is too small is refused with what it lacks, before anything is written', async ({
    workshop,
  }) => {
    const source = await workshop.file({ bytes: 4 * MIB, seed: 'small' });
    const small = await workshop.loop({ bytes: 3 * MIB });
    const other = await workshop.file({ bytes: 0 });
    const { code, stderr } = await kcopyd('copy', source, other, small.path);
    expect(code).toBe(1);
    expect(stderr).toContain(`${small.path} is too small: 1.0 MiB (${SECTORS_OF_MIB} sectors) short`);
    expect(stderr).toContain(`--count ${3 * SECTORS_OF_MIB}`);
    expect((await stat(other)).size).toBe(0);
  });

  test('a mounted destination is refused, with the place where it is mounted', async ({ workshop }) => {
    const source = await workshop.file({ bytes: MIB });
    const loop = await workshop.loop({ bytes: 16 * MIB });
    const made = await run('mkfs.ext4', ['-q', loop.path]);
    expect(made.code).toBe(0);
    const place = await workshop.mount(loop.path);
    const { code, stderr } = await kcopyd('copy', source, loop.path);
    expect(code).toBe(1);
    expect(stderr).toContain('EBUSY');
    expect(stderr).toContain(`mounted at ${place}`);
  });

  test('a destination that may not be written is refused as such', async ({ workshop }) => {
    const source = await workshop.file({ bytes: MIB });
    const loop = await workshop.loop({ bytes: MIB, readOnly: true });
    const { code, stderr } = await kcopyd('copy', source, loop.path);
    expect(code).toBe(1);
    expect(stderr).toMatch(/EROFS|EACCES/);
    expect(stderr).toContain(loop.path);
  });

  test('a destination that may not be written by this user is refused as such', async ({ workshop, skip }) => {
    if (process.geteuid?.() === 0) skip('root may write everything');
    const source = await workshop.file({ bytes: MIB });
    const destination = await workshop.file({ bytes: 0 });
    await chmod(destination, 0o444);
    const { code, stderr } = await kcopyd('copy', source, destination);
    expect(code).toBe(1);
    expect(stderr).toContain('EACCES');
  });

  test('the same place twice is refused, whatever it is called', async ({ workshop }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'twice' });
    const destination = await workshop.file({ bytes: 0 });
    for (const args of [
      [source, source],
      [source, destination, destination],
      [source, destination, `/proc/self/root${destination}`],
    ]) {
      const { code, stderr } = await kcopyd('copy', ...args);
      expect(code).toBe(1);
      expect(stderr).toContain('name each place once');
    }
    expect(await readFile(source)).toEqual(randomBytes('twice', MIB));
  });

  test('a destination that fails is named, the others are complete with --ignore-errors, and the exit code is 1', async ({
    workshop,
  }) => {
    const source = await workshop.file({ bytes: 2 * MIB, seed: 'fails' });
    const faulty = await workshop.faulty({ kind: 'write-errors', file: await workshop.file({ bytes: 2 * MIB }) });
    const bad = await workshop.attach(faulty.path);
    const good = await workshop.file({ bytes: 0 });
    const { code, stdout } = await kcopyd('copy', '--ignore-errors', source, bad.path, good);
    expect(code).toBe(1);
    expect(stdout).toMatch(new RegExp(`^${bad.path} .* incomplete: write failed at sector 0 .*\\(EIO\\)`, 'm'));
    expect(stdout).toMatch(new RegExp(`^${good} .* complete, flushed$`, 'm'));
    expect(await readFile(good)).toEqual(randomBytes('fails', 2 * MIB));
  });

  test('a flush that fails leaves its destination incomplete; --no-flush asks for none', async ({ workshop }) => {
    const source = await workshop.file({ bytes: 64 << 10, seed: 'flush' });
    const faulty = await workshop.faulty({ kind: 'flush-errors', file: await workshop.file({ bytes: 64 << 10 }) });
    const device = await workshop.attach(faulty.path);
    const { code, stdout } = await kcopyd('copy', source, device.path);
    expect(code).toBe(1);
    expect(stdout).toMatch(new RegExp(`^${device.path} .* incomplete: flush failed: .*\\(EIO\\)$`, 'm'));
    expect(await kcopyd('copy', '--no-flush', source, device.path)).toMatchObject({ code: 0 });
  });

  test('the engine can be chosen, and is told', async ({ workshop }) => {
    const source = await workshop.file({ bytes: MIB });
    const destination = await workshop.file({ bytes: 0 });
    const { code, stdout } = await kcopyd('copy', '--engine', 'threads', source, destination);
    expect(code).toBe(0);
    expect(stdout).toContain('engine threads (');
  });
});

describe('--json', () => {
  test('a start, progress, an outcome: one object a line', async ({ workshop }) => {
    const source = await workshop.file({ bytes: 2 * MIB, seed: 'json' });
    const destination = await workshop.file({ bytes: 0 });
    const ended = await kcopyd('copy', '--json', source, destination);
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    const [start, ...rest] = lines(ended);
    expect(start).toMatchObject({
      type: 'start',
      source,
      destinations: [destination],
      flush: true,
      engine: { kind: expect.any(String), reason: expect.any(String) },
      sectorsTotal: 2 * SECTORS_OF_MIB,
    });
    const outcome = rest.pop();
    expect(outcome).toMatchObject({
      type: 'outcome',
      complete: true,
      aborted: false,
      sectors: 2 * SECTORS_OF_MIB,
      bytes: 2 * MIB,
      failures: [],
      destinations: [{ path: destination, sectors: 2 * SECTORS_OF_MIB, ok: true }],
    });
    expect(rest.length).toBeGreaterThan(0);
    expect(rest.at(-1)).toMatchObject({
      type: 'progress',
      sectorsDone: 2 * SECTORS_OF_MIB,
      destinations: [{ sectorsDone: 2 * SECTORS_OF_MIB, failed: false }],
    });
  });

  test('a failure has its code and its place', async ({ workshop }) => {
    // One piece: of several that fail, any may be the first.
    const bytes = 256 << 10;
    const source = await workshop.file({ bytes, seed: 'json' });
    const faulty = await workshop.faulty({ kind: 'full', bytes });
    const device = await workshop.attach(faulty.path);
    const ended = await kcopyd('copy', '--json', source, device.path);
    expect(ended.code).toBe(1);
    const outcome = lines(ended).at(-1);
    expect(outcome).toMatchObject({ type: 'outcome', complete: false, writeErr: 1 });
    expect(outcome.failures[0]).toMatchObject({ op: 'write', destination: 0, sector: 0, code: 'ENOSPC', errno: 28 });
  });

  test('a refusal is one line of its own', async ({ workshop }) => {
    const ended = await kcopyd('copy', '--json', workshop.path(), workshop.path());
    expect(ended.code).toBe(1);
    expect(lines(ended)).toEqual([
      { type: 'error', code: 'ENOENT', message: expect.any(String), path: expect.any(String), destination: null },
    ]);
  });

  test('whoever reads may go away: the copy goes on', async ({ workshop }) => {
    const source = await workshop.file({ bytes: 2 * MIB, seed: 'pipe' });
    const destination = await workshop.file({ bytes: 0 });
    const script = `'${process.execPath}' '${COMMAND}' copy --json '${source}' '${destination}' | head -n 1; exit \${PIPESTATUS[0]}`;
    expect(await run('bash', ['-c', script])).toMatchObject({ code: 0, stderr: '' });
    expect(await readFile(destination)).toEqual(randomBytes('pipe', 2 * MIB));
  });

  test('P6 a destination that is also where the report goes is refused before it is touched', async ({ workshop }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'report' });
    for (const [format, redirected] of [
      ['', '>'],
      ['--json', '>'],
      ['', '2>'],
    ] as const) {
      const destination = await workshop.file({ bytes: 4096, seed: 'before' });
      // Opened to append, so that the shell itself cuts nothing off.
      const script = `'${process.execPath}' '${COMMAND}' copy ${format} '${source}' '${destination}' ${redirected}> '${destination}'`;
      expect(await run('bash', ['-c', script])).toMatchObject({ code: 2, stdout: '' });
      const held = await readFile(destination);
      expect(held.subarray(0, 4096)).toEqual(randomBytes('before', 4096));
    }
  });

  test('P17 what only closing tells of is said, and the exit code is 1', async ({ workshop, skip }) => {
    const strace = programs('strace');
    if (!strace.available) skip(strace.reason);
    const [source, destination] = [await workshop.file({ bytes: MIB }), await workshop.file({ bytes: 0 })];
    const closing = ['-P', destination, '-e', 'trace=close', '-e', 'inject=close:error=ENOSPC'];
    const command = [process.execPath, COMMAND, 'copy', '--no-flush', source, destination];
    const ended = await run('strace', ['-f', '-qq', '-o', '/dev/null', ...closing, ...command]);
    expect(ended).toMatchObject({ code: 1, stderr: expect.stringMatching(/^kcopyd: ENOSPC: [^\n]*close[^\n]*\n$/) });
  });

  test('a log on a full disk does not end the copy', async ({ workshop }) => {
    const source = await workshop.file({ bytes: 2 * MIB, seed: 'full' });
    const destination = await workshop.file({ bytes: 0 });
    const script = `'${process.execPath}' '${COMMAND}' copy --json '${source}' '${destination}' > /dev/full`;
    const ended = await run('bash', ['-c', script]);
    expect(ended).toMatchObject({ code: 0, stderr: expect.stringMatching(/^kcopyd: [^\n]*ENOSPC[^\n]*\n$/) });
    expect(await readFile(destination)).toEqual(randomBytes('full', 2 * MIB));
  });
});

describe('abort', () => {
  test.for([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('%s: what is held is told, exit code %i', async ([signal, exitCode], { workshop }) => {
    const { child, destination } = await slowCopy(workshop);
    const said = await reading(child, (line) => {
      if (line.includes('"progress"')) child.kill(signal);
    });
    expect(said.ended).toEqual([exitCode, null]);
    const outcome = JSON.parse(said.lines.at(-1) ?? '');
    expect(outcome).toMatchObject({ type: 'outcome', complete: false, aborted: true });
    const [{ sectors, ok }] = outcome.destinations;
    expect(ok).toBe(false);
    expect(sectors).toBeLessThan(64 * SECTORS_OF_MIB);
    // What it says it holds, it holds.
    expect((await readFile(destination)).subarray(0, sectors * 512).equals(randomBytes('slow', sectors * 512))).toBe(
      true,
    );
  });

  test('P27 a signal while destinations are opened: nothing is begun, and that is what is told', async ({
    workshop,
  }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'early' });
    const late = await workshop.faulty({ kind: 'slow', file: await workshop.file({ bytes: MIB, seed: 'before' }) });
    const other = await workshop.file({ bytes: 0 });
    late.stick();
    // What the kernel knows of a name is good for a second; then opening it asks the server.
    await setTimeout(1500);
    const args = [COMMAND, 'copy', '--json', source, late.path, other];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const opened = (): boolean => {
      const links = readdirSync(`/proc/${child.pid}/fd`).map((fd) => link(`/proc/${child.pid}/fd/${fd}`));
      return links.includes(source);
    };
    while (!opened()) await setTimeout(20);
    // The source is open: the first destination is next.
    await setTimeout(200);
    child.kill('SIGINT');
    const { lines: printed, ended } = await reading(child, () => late.resume());
    expect(ended).toEqual([130, null]);
    expect(printed.map((line) => JSON.parse(line))).toEqual([
      { type: 'aborting', signal: 'SIGINT' },
      { type: 'error', code: 'ABORT_ERR', message: expect.any(String), path: null, destination: null },
    ]);
    expect((await stat(other)).size).toBe(0);
  });

  test('a second signal ends it at once', async ({ workshop }) => {
    const { child, slow } = await slowCopy(workshop);
    const said = await reading(child, (line) => {
      if (line.includes('"progress"')) {
        // Nothing lands from now on: only dying is left.
        slow.stick();
        child.kill('SIGINT');
      }
      if (line.includes('"aborting"')) {
        child.kill('SIGINT');
        slow.resume();
      }
    });
    expect(said.ended).toEqual([null, 'SIGINT']);
  });
});

describe('info', () => {
  test('a path that is no device is told with its path', async () => {
    const { code, stderr } = await kcopyd('info', '/dev/null');
    expect(code).toBe(1);
    expect(stderr).toMatch(/^kcopyd: this is a character device.*\(\/dev\/null\)$/m);
  });

  test('tells size, blocks, direct I/O, use and engine', async ({ workshop }) => {
    const loop = await workshop.loop({ bytes: 16 * MIB, sectorSize: 4096 });
    const { code, stdout } = await kcopyd('info', loop.path);
    expect(code).toBe(0);
    expect(stdout).toContain(`16.0 MiB (${16 * MIB} bytes, ${16 * SECTORS_OF_MIB} sectors)`);
    expect(stdout).toContain('logical 4096 bytes');
    expect(stdout).toMatch(/direct I\/O +yes \(/);
    expect(stdout).toMatch(/in use +no$/m);
    expect(stdout).toMatch(/^engine here: (io_uring|threads) \(/m);
  });

  test('without devices it tells the engine alone', async () => {
    const plain = await kcopyd('info');
    expect(plain).toMatchObject({ code: 0, stderr: '' });
    expect(plain.stdout).toMatch(/^engine here: (io_uring|threads) \(.*\); linux-.*, kernel \d.*\n$/);
    const json = await kcopyd('info', '--json');
    expect(lines(json)).toEqual([expect.objectContaining({ type: 'support', kernel: expect.any(String) })]);
  });

  test('a mounted device is in use, and where', async ({ workshop }) => {
    const loop = await workshop.loop({ bytes: 16 * MIB });
    expect((await run('mkfs.ext4', ['-q', loop.path])).code).toBe(0);
    const place = await workshop.mount(loop.path);
    const { code, stdout } = await kcopyd('info', loop.path);
    expect(code).toBe(0);
    expect(stdout).toContain(`mounted at ${place}`);
  });

  test('--json has the same, and one that cannot be opened is exit code 1', async ({ workshop }) => {
    const file = await workshop.file({ bytes: 1000 });
    const missing = workshop.path();
    const ended = await kcopyd('info', '--json', file, missing);
    expect(ended.code).toBe(1);
    expect(lines(ended)).toEqual([
      expect.objectContaining({ type: 'support', kernel: expect.any(String) }),
      expect.objectContaining({ type: 'device', path: file, kind: 'file', bytes: 1000, sectors: 2, inUse: null }),
      expect.objectContaining({ type: 'error', code: 'ENOENT', path: missing }),
    ]);
  });
});
