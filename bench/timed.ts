// Runs a program of somebody else's and says what it took: wall time, its processor time with that of its children, its
// memory. It knows nothing of copying.
import { existsSync } from 'node:fs';
import { run } from '../test/support/command.js';
import { machineBusySeconds } from './machine.js';

/** What a run took. */
export interface Taken {
  readonly seconds: number;
  /** User and system time of the programs; not of the kernel's own threads. */
  readonly cpuSeconds: number;
  /** The same of everything on the machine, in steps of 10 ms. */
  readonly machineCpuSeconds: number;
  /** The largest resident set of one program; absent where GNU time is. */
  readonly residentBytes?: number;
  /** What they printed. */
  readonly printed: string;
}

const GNU_TIME = '/usr/bin/time';
const LONG_MS = 600_000;
const MARK = 'kcopyd-bench';

/** A program and its arguments, as a word for {@link timed}; its memory is measured, if GNU time is installed. */
export function command(program: string, ...args: readonly string[]): string {
  const measured = existsSync(GNU_TIME) ? [GNU_TIME, '-f', `${MARK} resident %M`] : [];
  return [...measured, program, ...args].map(quoted).join(' ');
}

/** Several programs at the same time; it fails if any does. */
export function together(...commands: readonly string[]): string {
  const started = commands.map((command, index) => `${command} & p${index}=$!;`);
  const waited = commands.map((_, index) => `wait $p${index} || failed=1;`);
  return `failed=0; ${started.join(' ')} ${waited.join(' ')} test $failed = 0`;
}

/** Runs a script of the shell; rejects if it fails. */
export async function timed(script: string): Promise<Taken> {
  const busy = machineBusySeconds();
  const timedScript = `TIMEFORMAT='${MARK} took %3R %3U %3S'; set -o pipefail; time { ${script}; }`;
  const { code, stderr, stdout } = await run('bash', ['-c', timedScript], { timeoutMs: LONG_MS });
  const machineCpuSeconds = machineBusySeconds() - busy;
  const [, seconds, user, system] = new RegExp(`${MARK} took (\\S+) (\\S+) (\\S+)`).exec(stderr) ?? [];
  if (code !== 0 || seconds === undefined) throw new Error(`${script}: exit ${code}: ${stderr || stdout}`);
  const resident = [...stderr.matchAll(new RegExp(`${MARK} resident (\\d+)`, 'g'))].map(
    ([, kib]) => Number(kib) * 1024,
  );
  return {
    seconds: Number(seconds),
    cpuSeconds: Number(user) + Number(system),
    machineCpuSeconds,
    printed: stdout,
    ...(resident.length > 0 && { residentBytes: Math.max(...resident) }),
  };
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
