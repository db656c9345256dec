// Runs other programs for the tests, the demo and the benchmarks, always under a deadline: a device that never answers blocks
// even `losetup -a`. It knows nothing of devices.
import { spawn, spawnSync } from 'node:child_process';
import { delimiter } from 'node:path';

/** How a program ended. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** After this the program is killed and the promise rejects. Default 20 s. */
  readonly timeoutMs?: number;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
}

const TIMEOUT_MS = 20_000;

/** Where programs are looked for: administrators' ones are often outside an ordinary user's path. */
export const PROGRAM_PATH: string = [process.env.PATH ?? '', '/usr/sbin', '/sbin'].join(delimiter);

/** Runs a program to its end, whatever its exit code; rejects if it cannot start or does not end in time. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const { timeoutMs = TIMEOUT_MS, cwd, env } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd,
      env: { ...(env ?? process.env), PATH: PROGRAM_PATH },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    // A program stuck in the kernel does not die of SIGKILL: so the promise does not wait for its end.
    const deadline = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`${program} ${args.join(' ')}: no end after ${timeoutMs} ms; ${stderr}`));
    }, timeoutMs);
    child.on('error', (error) => {
      clearTimeout(deadline);
      reject(error);
    });
    child.on('close', (code, signal) => {
      clearTimeout(deadline);
      resolve({ code, signal, stdout, stderr });
    });
  });
}

/** Runs a program that must succeed; what it printed, without the last line break. */
export async function output(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const ended = await run(program, args, options);
  if (ended.code !== 0) {
    throw new Error(
      `${program} ${args.join(' ')}: exit ${ended.code ?? ended.signal}: ${ended.stderr || ended.stdout}`,
    );
  }
  return ended.stdout.trimEnd();
}

/** For the end of the process, when nothing asynchronous runs any more: never throws; whether the program succeeded. */
export function runSync(program: string, args: readonly string[], timeoutMs: number = 5_000): boolean {
  const env = { ...process.env, PATH: PROGRAM_PATH };
  return spawnSync(program, args, { env, timeout: timeoutMs, killSignal: 'SIGKILL', stdio: 'ignore' }).status === 0;
}
