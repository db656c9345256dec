// The benchmark: reads what is wanted, runs the cases one after the other, prints and writes what they came to. Whatever
// happens, also Ctrl-C, none of its devices is left.
import { join, resolve } from 'node:path';
import { CommanderError } from 'commander';
import { table } from '../cli/format.js';
import { run } from '../test/support/command.js';
import { sweep } from '../test/support/workshop.js';
import { readArguments, type Wishes } from './arguments.js';
import type { Case, Setting } from './case.js';
import { CASES } from './cases.js';
import { subject } from './contenders.js';
import { machine } from './machine.js';
import { goalLines, tableOf, write } from './report.js';

const BUILD_MS = 1_800_000;

/** Runs it, in the checkout at `root`; `script` is the process that is measured. The exit code. */
export async function bench(argv: readonly string[], root: string, script: string): Promise<number> {
  let wishes: Wishes;
  try {
    wishes = readArguments(
      argv,
      CASES.map(({ name }) => name),
    );
  } catch (error) {
    // The parser has said what is wrong, or printed its help.
    if (error instanceof CommanderError) return error.exitCode;
    throw error;
  }
  if (wishes.list) return list();
  // Workshops clear themselves away when the process ends, so ending it is enough.
  process.once('SIGINT', () => process.exit(130)).once('SIGTERM', () => process.exit(143));
  for (const left of await sweep()) say(`cleared away what a killed run left: ${left}`);
  const setting: Setting = { wishes, start: subject(script), example: (name) => example(root, name), say };
  const wanted = CASES.filter(({ name, onRequest }) =>
    wishes.cases.length === 0 ? !onRequest : wishes.cases.includes(name),
  );
  let failed = 0;
  for (const one of wanted) failed += await measured(one, setting, resolve(root, wishes.out));
  return failed === 0 ? 0 : 1;
}

async function measured(one: Case, setting: Setting, directory: string): Promise<number> {
  say(`\n${one.name}: ${one.about}`);
  try {
    const around = await machine();
    const result = await one.run(setting);
    for (const line of [...table(tableOf(result)), '', ...goalLines(result.goals), ...result.notes]) say(line);
    for (const path of await write(directory, one, result, around)) say(`written: ${path}`);
    return 0;
  } catch (error) {
    console.error(`kcopyd bench: ${one.name}: ${error instanceof Error ? error.message : String(error)}`);
    return 1;
  }
}

function list(): number {
  for (const line of table(CASES.map(({ name, about }) => [name, about]))) say(line);
  return 0;
}

async function example(root: string, name: string): Promise<string> {
  const args = ['build', '--release', '--locked', '--package', 'kcopyd', '--example', name];
  const { code, stderr } = await run('cargo', args, { cwd: root, timeoutMs: BUILD_MS });
  if (code !== 0) throw new Error(`cargo ${args.join(' ')}: exit ${code}: ${stderr}`);
  return join(process.env.CARGO_TARGET_DIR ?? join(root, 'target'), 'release', 'examples', name);
}

function say(line: string): void {
  console.log(line);
}
