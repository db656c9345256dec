// Runs test runners for the doors, shows what they print while they run, and says at the end, in one line that a machine can
// find, how much passed, failed and was skipped. It builds nothing and knows no test.
import { spawn } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { root, step } from './setup.mjs';

const REPORT = join(root, 'target', 'vitest.json');

/** Runs a program, shows what it prints, and hands it back. */
export function run(program, args, env = {}) {
  return new Promise((resolve, reject) => {
    const color = process.stdout.isTTY ? { CARGO_TERM_COLOR: 'always', FORCE_COLOR: '1' } : {};
    const child = spawn(program, args, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...color, ...process.env, ...env },
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

/** Runs vitest on the built package, and counts. */
export async function vitest(name, args, env) {
  const reporters = ['default', './test/support/skips.ts', 'json'].map((reporter) => `--reporter=${reporter}`);
  rmSync(REPORT, { force: true });
  step(['vitest run', ...args].join(' '));
  const all = ['node_modules/vitest/vitest.mjs', 'run', ...reporters, `--outputFile.json=${REPORT}`, ...args];
  const { code } = await run(process.execPath, all, env);
  try {
    const { numPassedTests, numFailedTests, numPendingTests } = JSON.parse(readFileSync(REPORT, 'utf8'));
    return { name, code, passed: numPassedTests, failed: numFailedTests, skipped: numPendingTests };
  } catch {
    // It did not come to the end; its own words are above.
    return { name, code: code || 1, passed: 0, failed: 0, skipped: 0 };
  }
}

/** `test result: ok. 14 passed; 0 failed; 1 ignored; …`, once for each crate and kind. */
export function countCargo(printed) {
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

/** Says what came of it all, and sets the exit code. */
export function report(runs, lines) {
  console.log();
  for (const line of lines) step(line);
  for (const { name, passed, failed, skipped, code } of runs) {
    const ended = code === 0 || failed > 0 ? '' : `, ended with ${code}`;
    step(`${name}: ${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}${ended}`);
  }
  const total = (key) => runs.reduce((sum, run) => sum + run[key], 0);
  // Last, and in words that are easy to find: what a machine reads too.
  console.log(`${total('passed')} passed, ${total('failed')} failed, ${total('skipped')} skipped`);
  process.exitCode = runs.every(({ code }) => code === 0) ? 0 : 1;
}
