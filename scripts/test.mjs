// The door `npm test`: sets everything up, runs all tests of Rust and of the face, and says what ran, what did not and why.
//   npm test                 everything
//   npm test -- cli -t P8    only the face's tests, with vitest's own arguments
import { spawn } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { checkTools, installLaboratory, onPath, root, setUp, step } from './setup.mjs';

const REPORT = join(root, 'target', 'vitest.json');

const chosen = process.argv.slice(2);
if (chosen.length === 0) checkTools();
setUp();
const missing = installLaboratory();
const { importTypeScript } = await import('./typescript.mjs');
const { facilities, sweep } = await importTypeScript('scripts/laboratory.ts');
for (const left of await sweep()) step(`cleared away what a killed run left: ${left}`);

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
runs.push(await face());

console.log();
for (const line of [...(await facilities()), ...missing]) step(line);
for (const { name, passed, failed, skipped, code } of runs) {
  const ended = code === 0 || failed > 0 ? '' : `, ended with ${code}`;
  step(`${name}: ${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}${ended}`);
}
const total = (key) => runs.reduce((sum, run) => sum + run[key], 0);
// Last, and in words that are easy to find: what a machine reads too.
console.log(`${total('passed')} passed, ${total('failed')} failed, ${total('skipped')} skipped`);
process.exitCode = runs.every(({ code }) => code === 0) ? 0 : 1;

/** Runs cargo and counts what it prints. */
async function cargo(name, args, count) {
  step(`cargo ${args.join(' ')}`);
  const { code, printed } = await run('cargo', args);
  return { name, code, ...count(printed) };
}

/** Runs vitest on the built package. */
async function face() {
  const reporters = ['default', './test/support/skips.ts', 'json'].map((reporter) => `--reporter=${reporter}`);
  rmSync(REPORT, { force: true });
  step('vitest run');
  const args = ['node_modules/vitest/vitest.mjs', 'run', ...reporters, `--outputFile.json=${REPORT}`, ...chosen];
  const { code } = await run(process.execPath, args);
  try {
    const { numPassedTests, numFailedTests, numPendingTests } = JSON.parse(readFileSync(REPORT, 'utf8'));
    return { name: 'face', code, passed: numPassedTests, failed: numFailedTests, skipped: numPendingTests };
  } catch {
    // It did not come to the end; its own words are above.
    return { name: 'face', code: code || 1, passed: 0, failed: 0, skipped: 0 };
  }
}

/** Runs a program, shows what it prints, and hands it back. */
function run(program, args) {
  return new Promise((resolve, reject) => {
    const color = process.stdout.isTTY ? { CARGO_TERM_COLOR: 'always', FORCE_COLOR: '1' } : {};
    const child = spawn(program, args, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...color, ...process.env },
    });
    let printed = '';
    for (const [from, to] of [
      [child.stdout, process.stdout],
      [child.stderr, process.stderr],
    ]) {
      from.setEncoding('utf8').on('data', (text) => {
        printed += text;
        to.write(text);
      });
    }
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code: code ?? signal, printed: plain(printed) }));
  });
}

function plain(text) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is the escape that starts a colour.
  return text.replace(/\u001b\[[0-9;]*m/g, '');
}

/** `Summary [   1.2s] 15 tests run: 14 passed (1 slow), 1 failed, 2 skipped` */
function countNextest(printed) {
  const summary = /Summary \[[^\]]*\] .*/.exec(printed)?.[0] ?? '';
  const number = (word) => Number(new RegExp(`(\\d+) ${word}`).exec(summary)?.[1] ?? 0);
  return { passed: number('passed'), failed: number('failed') + number('timed out'), skipped: number('skipped') };
}

/** `test result: ok. 14 passed; 0 failed; 1 ignored; …`, once for each crate and kind. */
function countCargo(printed) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const [, passed, failed, ignored] of printed.matchAll(
    /test result: .* (\d+) passed; (\d+) failed; (\d+) ignored/g,
  )) {
    counts.passed += Number(passed);
    counts.failed += Number(failed);
    counts.skipped += Number(ignored);
  }
  return counts;
}
