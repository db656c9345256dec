// The door `npm run fuzz`: coverage-guided fuzzing of the arithmetic on regions (fuzz/), and random arguments for the face, both
// judged by a second opinion and not for crashes alone. It installs cargo-fuzz below target/ if it is not there.
//   npm run fuzz                        a minute and a half
//   npm run fuzz -- --seconds 3600      as long as it is given; three quarters of it for the first
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { report, run, vitest } from './running.mjs';
import { checkTools, onPath, root, setUp, step } from './setup.mjs';

const CARGO_FUZZ = '0.13.2';
const TOOLS = join(root, 'target', 'tools');
const CORPUS = join(root, 'fuzz', 'corpus', 'plan');
/** So many arguments does the face read in a second, here; their test ends by itself. */
const ARGUMENTS_PER_SECOND = 10_000;

const args = process.argv.slice(2);
const seconds = args[0] === '--seconds' ? Number(args[1]) : 90;
if (!(seconds >= 1) || (args.length > 0 && args.length !== 2)) {
  console.error('kcopyd: npm run fuzz -- [--seconds N]');
  process.exit(2);
}

checkTools();
setUp();
const env = { PATH: `${join(TOOLS, 'bin')}:${process.env.PATH}`, RUSTC_BOOTSTRAP: '1' };
if (!onPath('cargo-fuzz') && !existsSync(join(TOOLS, 'bin', 'cargo-fuzz'))) {
  step(`installing cargo-fuzz ${CARGO_FUZZ} below target/`);
  const install = ['install', '--quiet', '--locked', '--root', TOOLS, `cargo-fuzz@${CARGO_FUZZ}`];
  if ((await run('cargo', install)).code !== 0) process.exit(1);
}
report([await plan(Math.ceil(seconds * 0.75)), await argumentsOfTheFace(Math.ceil(seconds * 0.25))], []);

/** What was found interesting before is in the corpus, which is kept from run to run. */
async function plan(most) {
  mkdirSync(CORPUS, { recursive: true });
  const target = ['--target-dir', 'target/fuzz', 'plan', CORPUS];
  const fuzz = ['fuzz', 'run', ...target, '--', `-max_total_time=${most}`, '-max_len=2048', '-print_final_stats=1'];
  step(`cargo ${fuzz.join(' ')}`);
  const { code, printed } = await run('cargo', fuzz, env);
  const count = Number(/stat::number_of_executed_units:\s*(\d+)/.exec(printed)?.[1] ?? 0);
  step(`${count} requests were planned`);
  // One that was never run has found nothing either.
  const good = code === 0 && count > 0;
  return {
    name: 'requests, guided by coverage',
    code: good ? 0 : 1,
    passed: Number(good),
    failed: Number(!good),
    skipped: 0,
  };
}

function argumentsOfTheFace(most) {
  const runs = String(most * ARGUMENTS_PER_SECOND);
  return vitest('random arguments', ['test/arguments.test.ts'], { KCOPYD_TEST_ARGUMENTS: runs });
}
