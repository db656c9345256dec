// Those who install the package: each in a clean folder of its own, from the registry of the rehearsal, with a package manager as
// it comes. What they see of it is looked at by scripts of theirs (customer/), which know kcopyd's public face only.
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { output } from '../../test/support/command.js';
import { npm, type Registry } from './registry.js';
import type { Steps } from './steps.js';

const RUN_MS = 180_000;

/** What customer/face.mjs prints. */
export interface Face {
  readonly node: string;
  readonly cpu: string;
  readonly kernel: string;
  readonly engine: 'io_uring' | 'threads';
  readonly reason: string;
  readonly requireIsImport: boolean;
}

/** A clean folder with a package.json of a customer's. */
export class Customer {
  readonly folder: string;
  readonly #root: string;
  readonly #registry: Registry;
  /** Runs the customer's scripts; the first words of a command line. */
  readonly #node: readonly string[];
  /** Runs the package manager. */
  readonly #npmNode: string;

  constructor(
    { root, registry, steps }: { readonly root: string; readonly registry: Registry; readonly steps: Steps },
    name: string,
    node: string | readonly string[],
  ) {
    this.#root = root;
    this.#registry = registry;
    this.#node = typeof node === 'string' ? [node] : node;
    this.#npmNode = typeof node === 'string' ? node : process.execPath;
    this.folder = join(steps.directory, name.replaceAll(/[^\w.-]+/g, '-'));
    mkdirSync(this.folder);
    writeFileSync(
      join(this.folder, 'package.json'),
      `${JSON.stringify({ name: 'customer', private: true }, null, 2)}\n`,
    );
  }

  /** npm with these arguments. */
  npm(...args: readonly string[]): Promise<string> {
    return npm(this.#npmNode, args, { cwd: this.folder, timeoutMs: RUN_MS, env: this.#registry.env });
  }

  /** What is in node_modules, but for npm's own. */
  installed(): string[] {
    const top = readdirSync(join(this.folder, 'node_modules')).filter((name) => !name.startsWith('.'));
    return top
      .flatMap((name) =>
        name.startsWith('@')
          ? readdirSync(join(this.folder, 'node_modules', name)).map((sub) => `${name}/${sub}`)
          : [name],
      )
      .sort();
  }

  /** Throws unless exactly these are installed. */
  expectInstalled(...names: readonly string[]): void {
    expect(this.installed().join(' '), [...names].sort().join(' '), 'node_modules');
  }

  /** Runs one of customer/'s scripts; the JSON that it printed. */
  async run(script: string, ...args: readonly string[]): Promise<unknown> {
    copyFileSync(join(this.#root, 'scripts/pack/customer', script), join(this.folder, script));
    return JSON.parse(await this.node(script, ...args));
  }

  /** Runs Node with these arguments. */
  node(...args: readonly string[]): Promise<string> {
    const [program = '', ...before] = this.#node;
    return output(program, [...before, ...args], { cwd: this.folder, timeoutMs: RUN_MS, env: this.#registry.env });
  }

  /** Imports, requires, starts an engine. */
  async face(): Promise<Face> {
    const face = (await this.run('face.mjs')) as Face;
    expect(face.requireIsImport, true, 'what require() gives is what import gives');
    return face;
  }

  /** Runs the README's example as printed. */
  async example(): Promise<void> {
    const [, example = ''] = /```js\n(.*?)```/s.exec(readFileSync(join(this.#root, 'README.md'), 'utf8')) ?? [];
    writeFileSync(join(this.folder, 'example.mjs'), example);
    const printed = await this.node('example.mjs');
    if (!/^\d+ bytes in both after [\d.]+ ms, by (io_uring|threads)$/.test(printed))
      throw new Error(`the example printed: ${printed}`);
  }

  /** Copies by the face, then by the command, and compares every byte. */
  async copies(engine: string, source: string, destinations: readonly string[]): Promise<number> {
    const outcome = (await this.run('copy.mjs', engine, source, ...destinations)) as {
      bytes: number;
      ok: boolean;
      engine: string;
    };
    expect(outcome.ok, true, 'every destination is complete');
    expect(outcome.engine, engine, 'engine');
    for (const destination of destinations)
      await output('cmp', ['-n', String(outcome.bytes), source, destination], { timeoutMs: RUN_MS });
    return outcome.bytes;
  }

  /** Copies by the installed command. */
  async command(source: string, destination: string): Promise<void> {
    const program = join(this.folder, 'node_modules/.bin/kcopyd');
    await this.node(program, 'copy', '--json', '--create', source, destination);
    await output('cmp', [source, destination], { timeoutMs: RUN_MS });
  }
}

/** Throws if something is not what it should be. */
export function expect<T>(seen: T, right: T, what: string): void {
  if (seen !== right) throw new Error(`${what}: ${JSON.stringify(seen)}, not ${JSON.stringify(right)}`);
}
