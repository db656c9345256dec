// A registry of our own on loopback, for the time of a rehearsal: verdaccio, which knows no other registry and holds nothing but what
// is published to it here. It knows nothing of kcopyd.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { output } from '../../test/support/command.js';
import { oneLine, say } from './say.js';
import { NotHere, type Steps } from './steps.js';

const VERDACCIO = '6.10.4';
/** It wants Node 22 or newer. */
export const REGISTRY_NODE = '24.21.0';
/** As published it asks for a node-fetch that there is not. */
const PACKAGE = { private: true, dependencies: { verdaccio: VERDACCIO }, overrides: { 'node-fetch': '2.7.0' } };
const INSTALL_MS = 300_000;
const START_MS = 60_000;

/** A running registry. */
export class Registry {
  /** Where it is; also npm's setting. */
  readonly url: string;
  /** The environment for package managers that are to know this registry only: no settings and no cache of whoever runs this. */
  readonly env: NodeJS.ProcessEnv;

  private constructor(port: number, directory: string) {
    this.url = `http://127.0.0.1:${port}/`;
    const settings = join(directory, 'npmrc');
    const lines = [`//127.0.0.1:${port}/:_authToken=rehearsal`, 'audit=false', 'fund=false'];
    writeFileSync(settings, `${[...lines, 'update-notifier=false'].join('\n')}\n`);
    const ours = /^((npm|pnpm|kcopyd|napi_rs)_|NODE_OPTIONS$)/i;
    const kept = Object.entries(process.env).filter(([name]) => !ours.test(name));
    const cache = join(directory, 'cache');
    this.env = {
      ...Object.fromEntries(kept),
      npm_config_registry: this.url,
      npm_config_userconfig: settings,
      npm_config_cache: cache,
    };
  }

  /** Installs it if it is not there yet, and starts it on a free port; the rehearsal's end ends it. */
  static async start(root: string, node: string, steps: Steps): Promise<Registry> {
    const program = await installed(root, node);
    const directory = join(steps.directory, 'registry');
    mkdirSync(directory);
    const port = await freePort();
    const registry = new Registry(port, directory);
    writeFileSync(join(directory, 'config.yaml'), CONFIG);
    const child = spawn(node, [program, '--config', join(directory, 'config.yaml'), '--listen', `127.0.0.1:${port}`], {
      cwd: directory,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    steps.atEnd(() => child.kill('SIGKILL'));
    let said = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        said = (said + text).slice(-4_000);
      });
    }
    await answering(registry.url, child, () => said);
    return registry;
  }

  /** Publishes a tarball. */
  async publish(tarball: string): Promise<void> {
    await output('npm', ['publish', tarball, '--ignore-scripts', '--access', 'public'], {
      env: this.env,
      timeoutMs: INSTALL_MS,
    });
  }
}

const CONFIG = `storage: ./storage
uplinks: {}
packages:
  '**':
    access: $all
    publish: $all
log: { type: stdout, format: pretty, level: warn }
`;

/** verdaccio's program. */
async function installed(root: string, node: string): Promise<string> {
  const home = join(root, 'target', 'rehearsal', `verdaccio-${VERDACCIO}`);
  const program = join(home, 'node_modules', 'verdaccio', 'bin', 'verdaccio');
  if (existsSync(program)) return program;
  say(`installing verdaccio ${VERDACCIO} (npm)`);
  const part = `${home}.part`;
  rmSync(part, { recursive: true, force: true });
  mkdirSync(part, { recursive: true });
  writeFileSync(join(part, 'package.json'), JSON.stringify(PACKAGE));
  try {
    await npm(node, ['install', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: part, timeoutMs: INSTALL_MS });
  } catch (error) {
    throw new NotHere(`verdaccio ${VERDACCIO} could not be installed: ${oneLine(error).slice(0, 200)}`);
  }
  rmSync(home, { recursive: true, force: true });
  renameSync(part, home);
  return program;
}

/** Runs npm on a Node; what it printed. */
export async function npm(
  node: string,
  args: readonly string[],
  options: { readonly cwd: string; readonly timeoutMs: number; readonly env?: NodeJS.ProcessEnv },
): Promise<string> {
  const cli = await output('sh', ['-c', 'readlink -f "$(command -v npm)"']);
  return output(node, [cli, ...args], options);
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() =>
        address && typeof address === 'object' ? resolve(address.port) : reject(new Error('no port')),
      );
    });
  });
}

async function answering(url: string, child: ChildProcess, said: () => string): Promise<void> {
  const end = Date.now() + START_MS;
  while (Date.now() < end) {
    if (child.exitCode !== null) break;
    try {
      if ((await fetch(`${url}-/ping`)).ok) return;
    } catch {
      // Not listening yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`verdaccio does not answer: ${said()}`);
}
