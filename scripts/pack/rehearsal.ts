// The rehearsal of a release, on loopback: the packages are built, looked at, published to a registry of our own and installed as
// their users will install them; then they are used. Nothing leaves this machine, and nothing is left on it but what target/ and
// npm/ keep. docs/RELEASING.md has what it showed.
import { join } from 'node:path';
import { tryArm64 } from './arm64.js';
import { buildAll } from './build.js';
import { tryGuest } from './guest.js';
import { tryInstalls } from './installs.js';
import { tryMusl } from './musl.js';
import { findNode } from './nodes.js';
import { type Packed, packAll, packLocal } from './pack.js';
import { readManifest } from './platforms.js';
import { REGISTRY_NODE, Registry } from './registry.js';
import { say } from './say.js';
import { Steps } from './steps.js';

/** What every step may need. */
export interface Stage {
  readonly root: string;
  readonly steps: Steps;
  readonly registry: Registry;
  readonly packed: Packed;
  readonly version: string;
}

/** How much of it. */
export interface Length {
  /** What CI has time for. */
  readonly short: boolean;
  /** The binaries in npm/binaries are taken as they are. */
  readonly built: boolean;
}

/** The rehearsal; the exit code. */
export async function rehearse(root: string, length: Length): Promise<number> {
  const steps = new Steps();
  try {
    await play(root, steps, length);
  } finally {
    steps.clear();
  }
  return steps.summary();
}

async function play(root: string, steps: Steps, { short, built }: Length): Promise<void> {
  const { version } = readManifest(root);
  say(`rehearsing kcopyd ${version}${short ? ', in short' : ''}, in ${steps.directory}`);
  if (!short && !built) {
    const made = await steps.take('build every platform', async () => {
      await buildAll(root, []);
      return 'built';
    });
    if (!made) return;
  }
  let packed: Packed | undefined;
  await steps.take('pack, and the gate', async () => {
    packed = short ? await packLocal(root, join(root, 'target', 'rehearsal', 'packed')) : await packAll(root, []);
    return `${packed.tarballs.length} packages may be published`;
  });
  if (!packed) return;
  const registry = await published(root, steps, packed);
  if (!registry) return;
  const stage = { root, steps, registry, packed, version };
  await tryInstalls(stage, short);
  if (short) return;
  await tryMusl(stage);
  await tryArm64(stage);
  await tryGuest(stage);
}

/** Starts the registry and publishes everything to it, the root last, as a release does. */
async function published(root: string, steps: Steps, { tarballs }: Packed): Promise<Registry | undefined> {
  let registry: Registry | undefined;
  await steps.take('publish to a registry on loopback', async () => {
    const started = await Registry.start(root, await findNode(root, REGISTRY_NODE), steps);
    for (const tarball of tarballs) await started.publish(tarball);
    registry = started;
    return `${tarballs.length} packages at ${started.url}`;
  });
  return registry;
}
