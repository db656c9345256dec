// Installs the published packages in every way that users do, on every line of Node, and copies with them.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { output } from '../../test/support/command.js';
import { hasLoop } from '../../test/support/machine.js';
import { Workshop } from '../../test/support/workshop.js';
import { Customer, expect } from './customers.js';
import { findNode, LINES, OLDEST } from './nodes.js';
import type { Platform } from './platforms.js';
import { npm } from './registry.js';
import type { Stage } from './rehearsal.js';
import { oneLine } from './say.js';
import { NotHere } from './steps.js';

const PNPM = '12.4.2';
/** What Node 20 and 22 bring with them. */
const OLDER_NPM = '10.9.9';
/** For what needs a newer Node than the one that may run this. */
const NEWER_NODE = '24.21.0';
const DISK_BYTES = 64 << 20;
const INSTALL_MS = 300_000;

/** Every way, or with `short` the plainest one on the Node that runs this. */
export async function tryInstalls(stage: Stage, short: boolean): Promise<void> {
  const { root, steps } = stage;
  const host = hostPlatform(stage);
  const versions = short ? [process.versions.node] : [...new Set([process.versions.node, ...OLDEST, ...LINES])];
  for (const version of versions) {
    await steps.take(`npm install, import, require, the README's example and copies, on Node ${version}`, async () =>
      tryNode(stage, host, await findNode(root, version)),
    );
  }
  await steps.take('npm install --omit=optional', () => tryOmitted(stage));
  if (short) return;
  await steps.take('npm ci from a lock file made for macOS', () => tryForeignLock(stage, host));
  await steps.take(`npm ${OLDER_NPM}, which Node 20 and 22 bring`, () => tryOlderNpm(stage, host));
  await steps.take(`pnpm ${PNPM}`, () => tryPnpm(stage));
}

/** The platform of this machine, as far as it was packed. */
function hostPlatform({ packed }: Stage): Platform {
  const found = packed.platforms.find(({ cpu, libc }) => cpu === process.arch && libc === 'glibc');
  if (!found) throw new Error('there is no package for this machine');
  return found;
}

async function tryNode(stage: Stage, host: Platform, node: string): Promise<string> {
  const customer = new Customer(stage, `npm-${node}`, node);
  await customer.npm('install', 'kcopyd');
  customer.expectInstalled('kcopyd', host.packageName);
  const face = await customer.face();
  await customer.example();
  return `${face.node}: ${face.engine} (${face.reason}); ${await tryCopies(customer)}`;
}

/** Copies on loop devices, or on files where there are none; by the face on both engines, and by the command. */
export async function tryCopies(customer: Customer): Promise<string> {
  const workshop = new Workshop({ roomBytes: 6 * DISK_BYTES });
  try {
    const loops = await hasLoop();
    const disk = async (seed: string | undefined, sectorSize: 512 | 4096): Promise<string> => {
      const file = { bytes: DISK_BYTES, ...(seed === undefined ? {} : { seed }) };
      return loops.available ? (await workshop.loop({ ...file, sectorSize })).path : workshop.file(file);
    };
    const source = await disk('release', 512);
    const destinations = [await disk(undefined, 512), await disk(undefined, 4096)];
    let copied = 0;
    for (const engine of ['io_uring', 'threads']) copied += await customer.copies(engine, source, destinations);
    await customer.command(join(customer.folder, 'package.json'), join(customer.folder, 'copy.json'));
    return `${copied} bytes to each of two ${loops.available ? 'loop devices' : `files (${loops.reason})`}, identical`;
  } finally {
    await workshop.dispose();
  }
}

/** npm before 11.3 loses the other platforms' packages; a lock file must have them all. */
async function tryForeignLock(stage: Stage, host: Platform): Promise<string> {
  const customer = new Customer(stage, 'foreign-lock', process.execPath);
  await customer.npm('install', '--package-lock-only', '--os=darwin', '--cpu=arm64', 'kcopyd');
  await customer.npm('ci');
  customer.expectInstalled('kcopyd', host.packageName);
  const { engine } = await customer.face();
  return `installs ${host.packageName}, ${engine}`;
}

async function tryOmitted(stage: Stage): Promise<string> {
  const customer = new Customer(stage, 'omitted', process.execPath);
  await customer.npm('install', '--omit=optional', 'kcopyd');
  customer.expectInstalled('kcopyd');
  const { engine, code } = (await customer.run('missing.mjs')) as { engine: string | null; code: string };
  expect(engine, null, 'support().engine');
  expect(code, 'ERR_KCOPYD_BINDING_NOT_FOUND', 'what KcopydClient.create() rejects with');
  return `imports; create() rejects with ${code}`;
}

async function tryOlderNpm(stage: Stage, host: Platform): Promise<string> {
  const npm10 = await packageManager(stage.root, 'npm', OLDER_NPM, process.execPath);
  const customer = new Customer(stage, 'older-npm', process.execPath);
  const options = { cwd: customer.folder, timeoutMs: INSTALL_MS, env: stage.registry.env };
  await output(process.execPath, [join(npm10, 'bin/npm-cli.js'), 'install', 'kcopyd'], options);
  await output(process.execPath, [join(npm10, 'bin/npm-cli.js'), 'ci'], options);
  // It does not write `libc` into a lock file, so that `npm ci` brings both of a processor's; the right one is loaded.
  const installed = customer.installed();
  expect(installed.includes(host.packageName), true, `${host.packageName} is installed`);
  const { engine } = await customer.face();
  return `npm install, then npm ci, brings ${installed.join(', ')}; ${engine}`;
}

async function tryPnpm(stage: Stage): Promise<string> {
  const { root, registry } = stage;
  const node = await findNode(root, NEWER_NODE);
  const program = join(await packageManager(root, 'pnpm', PNPM, node), 'bin/pnpm.mjs');
  const customer = new Customer(stage, 'pnpm', node);
  const add = ['add', '--registry', registry.url, '--store-dir', join(stage.steps.directory, 'pnpm-store'), 'kcopyd'];
  const options = { cwd: customer.folder, timeoutMs: INSTALL_MS, env: registry.env };
  await output(node, [program, ...add], options);
  const { engine } = await customer.face();
  await customer.example();
  return `installs and runs, ${engine}`;
}

/** The folder of a package manager, installed once. */
async function packageManager(root: string, name: string, version: string, node: string): Promise<string> {
  const home = join(root, 'target', 'rehearsal', `${name}-${version}`);
  const folder = join(home, 'node_modules', name);
  if (existsSync(folder)) return folder;
  try {
    const args = ['install', '--prefix', home, '--no-audit', '--no-fund', `${name}@${version}`];
    await npm(node, args, { cwd: root, timeoutMs: INSTALL_MS });
  } catch (error) {
    throw new NotHere(`${name} ${version} could not be installed: ${oneLine(error)}`);
  }
  return folder;
}
