// The door `npm run test:faults`: real faults on real devices, kills, and random jobs against a model. docs/TESTING.md says
// what is promised against which fault.
//   npm run test:faults                         the matrix of faults, and as many kills, ends and jobs as CI has time for
//   npm run test:faults -- --release            ten times as many of them
//   npm run test:faults -- --kills 500 kills    only the files whose names contain a word, or any arguments of vitest's
import { join } from 'node:path';
import { report, run as runProgram, vitest } from './running.mjs';
import { checkTools, root, setUpLaboratory, step } from './setup.mjs';

/** How much of what is done at random: kills of native processes and of Node's, ends of workers, jobs against a model. */
const COUNTS = { kills: 1_000, nodeKills: 100, endings: 100, jobs: 10_000 };

const args = process.argv.slice(2);
const isRelease = take('--release') !== undefined;
const times = isRelease ? 10 : 1;
const kills = Number(take('--kills', true) ?? COUNTS.kills * times);

checkTools();
const facilities = await setUpLaboratory();
// As a test build has it: with every assertion, and made already where `npm test` ran before.
step('building crates/kcopyd/examples/torture');
const built = await runProgram('cargo', ['build', '--quiet', '--locked', '-p', 'kcopyd', '--example', 'torture']);
if (built.code !== 0) process.exit(1);
const env = {
  KCOPYD_TORTURE: join(process.env.CARGO_TARGET_DIR ?? join(root, 'target'), 'debug', 'examples', 'torture'),
  KCOPYD_TEST_KILLS: String(kills),
  KCOPYD_TEST_KILLS_NODE: String(Math.ceil((kills * COUNTS.nodeKills) / COUNTS.kills)),
  KCOPYD_TEST_ENDINGS: String(COUNTS.endings * times),
  KCOPYD_TEST_JOBS: String(COUNTS.jobs * times),
};
const run = await vitest('faults', ['--config', 'vitest.faults.config.ts', ...args], env);
report([run], await facilities());

/** Takes an option out of the arguments: its value, or whether it was there. */
function take(name, hasValue = false) {
  const place = args.indexOf(name);
  if (place < 0) return undefined;
  const [, value] = args.splice(place, hasValue ? 2 : 1);
  return hasValue ? value : true;
}
