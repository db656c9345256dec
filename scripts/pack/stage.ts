// Makes the packages as they will be published: a folder for each below npm/packages, and from each a tarball in npm/tarballs. The
// root has JavaScript and types, built anew, and names the platforms' packages at exactly its own version; those have a binary
// each. The checkout's package.json stays as it is, so that `npm ci` never asks for packages that are not published yet.
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { output } from '../../test/support/command.js';
import { type Manifest, type Platform, platformsOf, readManifest } from './platforms.js';

const BUILD_MS = 300_000;

/** Goes into every package, where the checkout has it. */
const BESIDE = ['LICENSE', 'THIRD-PARTY-NOTICES.md'];
/** Of the checkout's package.json, what concerns whoever installs the package. */
const FIELDS = ['name', 'version', 'description', 'license', 'author', 'repository', 'homepage', 'bugs', 'keywords'];
const ROOT_FIELDS = [...FIELDS, 'type', 'engines', 'exports', 'imports', 'types', 'bin', 'files', 'publishConfig'];
const PLATFORM_FIELDS = ['version', 'license', 'author', 'repository', 'homepage', 'bugs', 'engines', 'publishConfig'];

/** What to pack, and where. */
export interface Packing {
  /** The checkout. */
  readonly root: string;
  /** Gets the folders `packages` and `tarballs`; what was in them goes. */
  readonly into: string;
  /** Where each platform's binary is. */
  readonly binaries: ReadonlyMap<Platform, string>;
}

/** Makes the folders and the tarballs; the paths of the tarballs, the root's last, in the order in which to publish them. */
export async function pack({ root, into, binaries }: Packing): Promise<readonly string[]> {
  const manifest = readManifest(root);
  const [packages, tarballs] = [join(into, 'packages'), join(into, 'tarballs')];
  for (const folder of [packages, tarballs]) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
  }
  const folders: string[] = [];
  for (const [platform, binary] of binaries) folders.push(stagePlatform(root, packages, manifest, platform, binary));
  folders.push(await stageRoot(root, packages, manifest));
  const packed: string[] = [];
  for (const folder of folders) {
    const args = ['pack', '--silent', '--ignore-scripts', '--pack-destination', tarballs];
    packed.push(join(tarballs, await output('npm', args, { cwd: folder, timeoutMs: BUILD_MS })));
  }
  return packed;
}

/** The folder of the package that everybody installs. */
async function stageRoot(root: string, packages: string, manifest: Manifest): Promise<string> {
  const folder = join(packages, manifest.name);
  mkdirSync(folder);
  const dist = join(folder, 'dist');
  const tsc = [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json', '--outDir', dist];
  await output(process.execPath, tsc, { cwd: root, timeoutMs: BUILD_MS });
  await output(process.execPath, ['scripts/build-cli.mjs', dist], { cwd: root, timeoutMs: BUILD_MS });
  const platforms = platformsOf(manifest).map(({ packageName }) => [packageName, manifest.version]);
  writeJson(folder, { ...pick(manifest, ROOT_FIELDS), optionalDependencies: Object.fromEntries(platforms) });
  for (const name of ['README.md', 'CHANGELOG.md', ...BESIDE]) copyIfThere(root, folder, name);
  return folder;
}

/** The folder of a platform's package. */
function stagePlatform(root: string, packages: string, manifest: Manifest, platform: Platform, binary: string): string {
  const folder = join(packages, platform.packageName.replace('/', '-').replace('@', ''));
  mkdirSync(folder);
  const title = `kcopyd's native part for Linux on ${platform.cpu} with ${platform.libc}`;
  writeJson(folder, {
    name: platform.packageName,
    description: title,
    ...pick(manifest, PLATFORM_FIELDS),
    os: ['linux'],
    cpu: [platform.cpu],
    libc: [platform.libc],
    type: 'commonjs',
    main: platform.binary,
    files: [platform.binary, 'THIRD-PARTY-NOTICES.md'],
  });
  const text = `${title}. Install the package kcopyd, which brings it along where it fits.\n`;
  writeFileSync(join(folder, 'README.md'), `# ${platform.packageName}\n\n${text}`);
  copyFileSync(binary, join(folder, platform.binary));
  for (const name of BESIDE) copyIfThere(root, folder, name);
  return folder;
}

function pick(manifest: Manifest, fields: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(fields.filter((field) => field in manifest).map((field) => [field, manifest[field]]));
}

function writeJson(folder: string, value: unknown): void {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(value, null, 2)}\n`);
}

function copyIfThere(root: string, folder: string, name: string): void {
  if (existsSync(join(root, name))) copyFileSync(join(root, name), join(folder, name));
}

/** The version that the Rust side has. */
export function cargoVersion(root: string): string {
  const [, version = ''] =
    /\[workspace\.package\]\s+version = "([^"]+)"/.exec(readFileSync(join(root, 'Cargo.toml'), 'utf8')) ?? [];
  return version;
}
