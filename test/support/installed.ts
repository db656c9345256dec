// A package as it lies in somebody's node_modules, put together by hand so that anything can be missing or broken in it: what
// package.json's `files` names, and one platform package beside it. What npm really makes of it is the rehearsal's matter.
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { support } from 'kcopyd';
import { type Ended, type RunOptions, run } from './command.js';
import type { Workshop } from './workshop.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** This machine's platform, as its package is named. */
export const PLATFORM: string = support().platform;

/** The binding that was built here. */
export async function builtBinding(): Promise<Buffer> {
  return readFile(join(ROOT, 'native', `kcopyd.${PLATFORM}.node`));
}

/** A folder with `node_modules/kcopyd` in it. */
export class Installed {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  /** Without any platform package. */
  static async make(workshop: Workshop): Promise<Installed> {
    const installed = new Installed(workshop.path('.app'));
    const home = join(installed.directory, 'node_modules', 'kcopyd');
    await mkdir(home, { recursive: true });
    await cp(join(ROOT, 'package.json'), join(home, 'package.json'));
    await cp(join(ROOT, 'dist'), join(home, 'dist'), { recursive: true });
    return installed;
  }

  /** Adds a platform package with this binding (null: the package without its file); the path of the file. */
  async add(binding: Buffer | null, platform: string = PLATFORM): Promise<string> {
    const home = join(this.directory, 'node_modules', '@kcopyd', `binding-${platform}`);
    const main = `kcopyd.${platform}.node`;
    await mkdir(home, { recursive: true });
    const manifest = { name: `@kcopyd/binding-${platform}`, version: '0.0.0', main };
    await writeFile(join(home, 'package.json'), JSON.stringify(manifest));
    if (binding) await writeFile(join(home, main), binding);
    return join(home, main);
  }

  /** The command as it is installed. */
  get command(): string {
    return join(this.directory, 'node_modules', 'kcopyd', 'dist', 'cli', 'kcopyd.js');
  }

  /** Runs a script in the folder, in a process of its own. */
  run(script: string, nodeArgs: readonly string[] = [], options: Omit<RunOptions, 'cwd'> = {}): Promise<Ended> {
    const args = [...nodeArgs, '--input-type=module', '--eval', script];
    return run(process.execPath, args, { ...options, cwd: this.directory });
  }
}
