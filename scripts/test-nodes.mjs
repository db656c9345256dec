// The door `npm run test:nodes`: runs the face's tests on other versions of Node than the one that runs this, with the same
// native part (one binary for all of them). npm carries Node's binaries. It builds what is missing and says why a version was
// not tried.
//   npm run test:nodes                     the life of processes, workers and clients, on each version
//   npm run test:nodes -- test/copy        other files, or any arguments of vitest's
import { spawnSync } from 'node:child_process';
import { accessSync, constants, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build, checkTools, installLaboratory, installPackages, root, step } from './setup.mjs';

const VERSIONS = ['22.23.3', '24.21.0', '26.10.0'];
/** The ones whose subject is what differs between versions of Node. */
const TESTS = ['test/lifecycle.test.ts', 'test/client.test.ts', 'test/submit_copy.test.ts'];
const DOWNLOAD_MS = 300_000;
const TESTS_MS = 900_000;

checkTools();
installPackages();
build();
for (const missing of installLaboratory()) step(missing);

const chosen = process.argv.slice(2);
const results = VERSIONS.map((version) => ({ version, ...tryVersion(version) }));
console.log();
for (const { version, text } of results) step(`Node ${version}: ${text}`);
process.exitCode = results.some(({ failed }) => failed) ? 1 : 0;

/** Runs the tests on a version; what came of it, in words. */
function tryVersion(version) {
  const node = binaryOf(version);
  if (node.why) return { failed: false, text: `not tried: ${node.why}` };
  step(`the tests on Node ${version}`);
  const args = [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...(chosen.length > 0 ? chosen : TESTS)];
  const { status, signal, error } = spawnSync(node.path, args, { cwd: root, stdio: 'inherit', timeout: TESTS_MS });
  if (status === 0) return { failed: false, text: 'all passed' };
  return { failed: true, text: `failed (${error?.message ?? signal ?? `exit code ${status}`})` };
}

/** Where a version's binary is, fetched if it is not there yet; or why it is not. */
function binaryOf(version) {
  const home = join(root, 'target', 'nodes', version);
  const path = join(home, 'bin', 'node');
  if (isRunnable(path)) return { path };
  mkdirSync(join(root, 'target', 'nodes'), { recursive: true });
  const folder = mkdtempSync(join(root, 'target', 'nodes', 'new-'));
  try {
    const name = `node-linux-${process.arch}@${version}`;
    step(`fetching ${name} (npm pack)`);
    const packed = quietly('npm', ['pack', '--silent', '--pack-destination', folder, name]);
    if (packed.why) return packed;
    const unpacked = quietly('tar', ['-xzf', join(folder, packed.printed.trim()), '-C', folder, 'package/bin/node']);
    if (unpacked.why) return unpacked;
    rmSync(home, { recursive: true, force: true });
    renameSync(join(folder, 'package'), home);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const asked = quietly(path, ['--version']);
  return asked.why ? asked : { path };
}

function isRunnable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Runs a program; what it printed, or why it did not succeed. */
function quietly(program, args) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8', timeout: DOWNLOAD_MS });
  if (status === 0) return { printed: stdout };
  const why = error?.message ?? stderr.trim().split('\n').at(-1);
  return { why: `${program} ${args[0]}: ${why || `exit code ${status}`}` };
}
