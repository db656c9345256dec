// Other versions of Node than the one that runs this, also for other processors. npm carries Node's binaries; they are fetched
// once, into target/nodes.
import { accessSync, constants, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { output } from '../../test/support/command.js';
import { oneLine, say } from './say.js';
import { NotHere } from './steps.js';

const DOWNLOAD_MS = 300_000;

/** The newest of each line that kcopyd runs on. */
export const LINES: readonly string[] = ['20.20.2', '22.23.3', '24.21.0', '26.10.0'];
/** The oldest of the first two: those that package.json's `engines` names. */
export const OLDEST: readonly string[] = ['20.19.0', '22.12.0'];

/** The path of a Node of this version; `NotHere` if it cannot be had. */
export async function findNode(root: string, version: string, cpu: string = process.arch): Promise<string> {
  if (`v${version}` === process.version && cpu === process.arch) return process.execPath;
  const nodes = join(root, 'target', 'nodes');
  const home = join(nodes, cpu === process.arch ? version : `${version}-${cpu}`);
  const path = join(home, 'bin', 'node');
  if (isRunnable(path)) return path;
  mkdirSync(nodes, { recursive: true });
  const folder = mkdtempSync(join(nodes, 'new-'));
  try {
    const name = `node-linux-${cpu}@${version}`;
    say(`fetching ${name} (npm pack)`);
    const options = { timeoutMs: DOWNLOAD_MS };
    const tarball = await output('npm', ['pack', '--silent', '--pack-destination', folder, name], options);
    await output('tar', ['-xzf', join(folder, tarball), '-C', folder, 'package/bin/node'], options);
    rmSync(home, { recursive: true, force: true });
    renameSync(join(folder, 'package'), home);
    return path;
  } catch (error) {
    throw new NotHere(`no Node ${version} for ${cpu}: ${oneLine(error)}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function isRunnable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
