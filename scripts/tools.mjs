// Gets the linters that are programs and no npm packages (scripts/tools.txt) into target/tools, by pip, once for each version of
// that list. Where that is not possible it says why: `npm run check` then does without them, and says so.
//   node scripts/tools.mjs    only gets them; fails if that is not possible
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { root, step } from './setup.mjs';

const LIST = join(root, 'scripts', 'tools.txt');
const HOME = join(root, 'target', 'tools');
const INSTALLED = join(HOME, 'tools.txt');
const INSTALL_MS = 300_000;

/** Where a tool is, if it is there. */
export function tool(name = '') {
  return join(HOME, 'bin', name);
}

/** Installs what is missing; why that is not possible, or undefined. */
export function installTools() {
  const list = readFileSync(LIST, 'utf8');
  if (existsSync(INSTALLED) && readFileSync(INSTALLED, 'utf8') === list) return undefined;
  step('installing linters (pip, scripts/tools.txt)');
  mkdirSync(join(root, 'target'), { recursive: true });
  const fresh = `${HOME}.${process.pid}`;
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps', '--only-binary=:all:'];
  const args = [...pip, '--require-hashes', '--target', fresh, '-r', LIST];
  const { status, stderr, error } = spawnSync('python3', args, { encoding: 'utf8', timeout: INSTALL_MS });
  if (status !== 0) {
    rmSync(fresh, { recursive: true, force: true });
    return error ? `python3: ${error.message}` : `python3 -m pip: ${stderr.trim().split('\n').at(-1)}`;
  }
  writeFileSync(join(fresh, 'tools.txt'), list);
  rmSync(HOME, { recursive: true, force: true });
  renameSync(fresh, HOME);
  return undefined;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const why = installTools();
  if (why) {
    console.error(`kcopyd: ${why}`);
    process.exitCode = 1;
  }
}
