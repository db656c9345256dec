// The program that treats the core badly (crates/kcopyd/examples/torture), and the devices that it does that on. What it finds
// wrong ends it with words; what it counts comes back.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { TestContext } from 'vitest';
import { run } from '../../support/command.js';
import { type EngineName, MIB } from '../../support/kcopyd.js';
import type { Workshop } from '../../support/workshop.js';

/** Built by scripts/test-faults.mjs, with every assertion. */
const PROGRAM =
  process.env.KCOPYD_TORTURE ?? fileURLToPath(new URL('../../../target/debug/examples/torture', import.meta.url));

export const SOURCE_BYTES: number = 8 * MIB;
export const DESTINATION_BYTES: number = 4 * MIB;

/** What it is given: a source, and destinations as DEVICE=BYTES. */
export interface Worked {
  readonly source: string;
  readonly targets: readonly string[];
}

/** Skips the test where the program has not been built. */
export function needsTorture(skip: TestContext['skip']): void {
  if (!existsSync(PROGRAM)) skip('the torture program is not built: npm run test:faults does that');
}

/** Runs it to its end, and returns what it counted; throws with its last words if it found something wrong. */
export async function torture<T>(args: readonly (string | number)[], timeoutMs: number): Promise<T> {
  const env = { ...process.env, RUST_BACKTRACE: '0' };
  const ended = await run(PROGRAM, args.map(String), { timeoutMs, env });
  if (ended.code !== 0) throw new Error(`torture ${args.join(' ')}: ${ended.code ?? ended.signal}: ${ended.stderr}`);
  return JSON.parse(ended.stdout) as T;
}

/** A source on a loop device; destinations with blocks of 512 and of 4096, and a file. */
export async function worked(workshop: Workshop, kinds: readonly ('512' | '4096' | 'file')[]): Promise<Worked> {
  const source = await workshop.loop({ bytes: SOURCE_BYTES, seed: 'source' });
  const targets = [];
  for (const kind of kinds) {
    const file = await workshop.file({ bytes: DESTINATION_BYTES, seed: `before ${kind}` });
    if (kind === 'file') {
      targets.push(`${file}=${file}`);
      continue;
    }
    const { path } = await workshop.attach(file, { sectorSize: kind === '512' ? 512 : 4096 });
    targets.push(`${path}=${file}`);
  }
  return { source: source.path, targets };
}

/** How often random things are done; scripts/test-faults.mjs says. */
export function times(variable: string, otherwise: number): number {
  const value = Number(process.env[variable] ?? otherwise);
  if (!Number.isSafeInteger(value) || value < 0)
    throw new Error(`${variable} is not a number: ${process.env[variable]}`);
  return value;
}

/** A seed for this run, or the one that a run which failed has named. */
export function seedOf(engine: EngineName): number {
  const given = process.env.KCOPYD_TEST_SEED;
  const seed = given === undefined ? Math.floor(Math.random() * 2 ** 20) : Number(given);
  console.log(`KCOPYD_TEST_SEED=${seed} (${engine})`);
  return seed;
}
