// The door `npm test`: sets everything up, runs all tests of Rust and of the face, and says what ran, what did not and why.
//   npm test                 everything
//   npm test -- cli -t P8    only the face's tests, with vitest's own arguments
import { countCargo, report, run, vitest } from './running.mjs';
import { checkTools, onPath, setUpLaboratory, step } from './setup.mjs';

const chosen = process.argv.slice(2);
if (chosen.length === 0) checkTools();
const facilities = await setUpLaboratory();

const runs = [];
if (chosen.length === 0) {
  if (onPath('cargo-nextest')) {
    runs.push(await cargo('Rust', ['nextest', 'run', '--workspace', '--locked', '--no-fail-fast'], countNextest));
    // What nextest leaves out: the examples in the documentation.
    runs.push(await cargo("Rust's examples", ['test', '--workspace', '--locked', '--doc'], countCargo));
  } else {
    runs.push(await cargo('Rust', ['test', '--workspace', '--locked', '--no-fail-fast'], countCargo));
  }
}
runs.push(await vitest('face', chosen));

report(runs, await facilities());

/** Runs cargo and counts what it prints. */
async function cargo(name, args, count) {
  step(`cargo ${args.join(' ')}`);
  const { code, printed } = await run('cargo', args);
  return { name, code, ...count(printed) };
}

/** `Summary [   1.2s] 15 tests run: 14 passed (1 slow), 1 failed, 2 skipped` */
function countNextest(printed) {
  const summary = /Summary \[[^\]]*\] .*/.exec(printed)?.[0] ?? '';
  const number = (word) => Number(new RegExp(`(\\d+) ${word}`).exec(summary)?.[1] ?? 0);
  return { passed: number('passed'), failed: number('failed') + number('timed out'), skipped: number('skipped') };
}
