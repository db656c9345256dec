// The door `npm run test:nodes`: runs the face's tests on other versions of Node than the one that runs this, with the same
// native part (one binary for all of them). npm carries Node's binaries. It builds what is missing and says why a version was
// not tried.
//   npm run test:nodes                     the life of processes, workers and clients, on each version
//   npm run test:nodes -- test/copy        other files, or any arguments of vitest's
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { build, checkTools, installLaboratory, installPackages, root, step } from './setup.mjs';

/** The ones whose subject is what differs between versions of Node. */
const TESTS = ['test/lifecycle.test.ts', 'test/client.test.ts', 'test/submit_copy.test.ts'];
const TESTS_MS = 900_000;

checkTools();
installPackages();
build();
for (const missing of installLaboratory()) step(missing);
// Only now: the packages that this needs may just have been installed.
const { importTypeScript } = await import('./typescript.mjs');
const { findNode, LINES } = await importTypeScript('scripts/pack/nodes.ts');

const chosen = process.argv.slice(2);
const results = [];
for (const version of LINES) {
  // `npm test` is for the one that runs this.
  if (`v${version}` !== process.version) results.push({ version, ...(await tryVersion(version)) });
}
console.log();
for (const { version, text } of results) step(`Node ${version}: ${text}`);
process.exitCode = results.some(({ failed }) => failed) ? 1 : 0;

/** Runs the tests on a version; what came of it, in words. */
async function tryVersion(version) {
  let node;
  try {
    node = await findNode(root.replace(/\/$/, ''), version);
  } catch (error) {
    return { failed: false, text: `not tried: ${error.message}` };
  }
  step(`the tests on Node ${version}`);
  const args = [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...(chosen.length > 0 ? chosen : TESTS)];
  const { status, signal, error } = spawnSync(node, args, { cwd: root, stdio: 'inherit', timeout: TESTS_MS });
  if (status === 0) return { failed: false, text: 'all passed' };
  return { failed: true, text: `failed (${error?.message ?? signal ?? `exit code ${status}`})` };
}
