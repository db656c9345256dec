// What stands between the tarballs and a registry: looks into each of them, as whoever installs it will find it, and says
// everything that is wrong. Nothing is published, in the rehearsal or in earnest, while this has something to say.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { output } from '../../test/support/command.js';
import { judgeElf } from './gate_elf.js';
import { lint } from './gate_lint.js';
import { type Manifest, type Platform, platformsOf, readManifest } from './platforms.js';
import { bytes, oneLine } from './say.js';
import { cargoVersion } from './stage.js';

const PLATFORM_BYTES_MAX = 1 << 20;
const ROOT_BYTES_MAX = 512 << 10;
/** npm runs some of these when a package is installed; none has any business in a package. */
const NEVER = [
  'scripts',
  'dependencies',
  'devDependencies',
  'peerDependencies',
  'bundleDependencies',
  'gypfile',
  'napi',
];
const PLACES = ['os', 'cpu', 'libc'];

/** What to look at. */
export interface Inspection {
  /** The checkout. */
  readonly root: string;
  readonly tarballs: readonly string[];
  /** The platforms that must be there; all for a release. */
  readonly platforms: readonly Platform[];
  /** The newest glibc that may be asked for; `null` for binaries that stay on the machine that built them. */
  readonly glibcMax: readonly [number, number] | null;
}

/** What was found. */
export interface Verdict {
  /** Everything that is wrong; empty if all may be published. */
  readonly problems: readonly string[];
  /** One line for each package: size and what it asks for. */
  readonly report: readonly string[];
}

/** A tarball, unpacked. */
interface Opened {
  readonly folder: string;
  readonly manifest: Record<string, unknown>;
  readonly files: readonly string[];
  readonly bytes: number;
  readonly tarball: string;
}

/** Looks at everything, also after something was wrong. */
export async function inspect(inspection: Inspection): Promise<Verdict> {
  const parent = join(inspection.root, 'target');
  mkdirSync(parent, { recursive: true });
  const directory = mkdtempSync(join(parent, 'gate-'));
  const clear = () => rmSync(directory, { recursive: true, force: true });
  // Also if the process ends in between.
  process.once('exit', clear);
  try {
    const opened = new Map<string, Opened>();
    for (const [at, tarball] of inspection.tarballs.entries()) {
      const one = await open(tarball, join(directory, String(at)));
      opened.set(String(one.manifest.name), one);
    }
    return await judge(inspection, opened);
  } finally {
    process.removeListener('exit', clear);
    clear();
  }
}

async function open(tarball: string, into: string): Promise<Opened> {
  mkdirSync(into);
  await output('tar', ['-xzf', tarball, '-C', into]);
  const folder = join(into, 'package');
  const files = filesIn(folder);
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, unknown>;
  return {
    folder,
    manifest,
    files,
    tarball,
    bytes: files.reduce((sum, file) => sum + statSync(join(folder, file)).size, 0),
  };
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

async function judge(inspection: Inspection, opened: ReadonlyMap<string, Opened>): Promise<Verdict> {
  const manifest = readManifest(inspection.root);
  const problems: string[] = [];
  const report: string[] = [];
  const wanted = new Map(inspection.platforms.map((platform) => [platform.packageName, platform]));
  for (const name of [...wanted.keys(), manifest.name]) {
    if (!opened.has(name)) problems.push(`${name}: there is no tarball of it`);
  }
  const rust = cargoVersion(inspection.root);
  if (rust !== manifest.version) problems.push(`Cargo.toml has version ${rust}, package.json ${manifest.version}`);
  for (const [name, one] of opened) {
    const platform = wanted.get(name);
    const own = platform
      ? [...judgePlatform(one, platform), ...(await judgeBinary(inspection, one, platform, report))]
      : judgeRoot(inspection.root, one, manifest);
    if (!platform) report.push(`${name}: ${one.files.length} files, ${bytes(one.bytes)} unpacked, ${packed(one)}`);
    problems.push(
      ...[...judgeAny(one, manifest), ...own, ...(await lint(inspection.root, one, !platform))].map(
        (text) => `${name}: ${text}`,
      ),
    );
  }
  return { problems, report };
}

/** What holds for every package. */
function judgeAny({ manifest, files }: Opened, checkout: Manifest): string[] {
  const problems = NEVER.filter((field) => field in manifest).map((field) => `package.json has ${field}`);
  if (manifest.version !== checkout.version)
    problems.push(`has version ${manifest.version}, the checkout ${checkout.version}`);
  for (const file of ['LICENSE', 'README.md']) if (!files.includes(file)) problems.push(`has no ${file}`);
  return problems;
}

function judgeRoot(root: string, { manifest, files, bytes: size }: Opened, checkout: Manifest): string[] {
  const problems = PLACES.filter((field) => field in manifest).map((field) => `package.json has ${field}`);
  if (manifest.name !== checkout.name) return [`is no package of ${checkout.name}'s`];
  const exact = Object.fromEntries(platformsOf(checkout).map(({ packageName }) => [packageName, checkout.version]));
  const named = JSON.stringify(manifest.optionalDependencies);
  if (named !== JSON.stringify(exact)) problems.push(`optionalDependencies are ${named}, not ${JSON.stringify(exact)}`);
  const expected = rootFiles(root);
  for (const file of expected) if (!files.includes(file)) problems.push(`has no ${file}`);
  for (const file of files) if (!expected.includes(file)) problems.push(`has ${file}, which nobody asked for`);
  if (size >= ROOT_BYTES_MAX) problems.push(`is ${bytes(size)} unpacked, the limit is ${bytes(ROOT_BYTES_MAX)}`);
  return problems;
}

/** The root's files: of each file of the face its JavaScript and its types, the command, and what is to be read. */
function rootFiles(root: string): string[] {
  const face = ['index', ...readdirSync(join(root, 'src')).map((name) => `src/${name.replace(/\.ts$/, '')}`)];
  const built = face.flatMap((name) => [`dist/${name}.js`, `dist/${name}.d.ts`]);
  const read = ['README.md', 'CHANGELOG.md', 'LICENSE', 'THIRD-PARTY-NOTICES.md'];
  return [
    'package.json',
    ...read.filter((name) => existsSync(join(root, name))),
    ...built,
    'dist/cli/kcopyd.js',
  ].sort();
}

function judgePlatform({ manifest, files, bytes: size }: Opened, platform: Platform): string[] {
  const problems: string[] = [];
  const places = { os: ['linux'], cpu: [platform.cpu], libc: [platform.libc], main: platform.binary };
  for (const [field, right] of Object.entries(places)) {
    const [is, be] = [JSON.stringify(manifest[field]), JSON.stringify(right)];
    if (is !== be) problems.push(`package.json has ${field} ${is}, not ${be}`);
  }
  if ('optionalDependencies' in manifest) problems.push('package.json has optionalDependencies');
  const allowed = ['package.json', 'README.md', 'LICENSE', 'THIRD-PARTY-NOTICES.md', platform.binary];
  for (const file of files) if (!allowed.includes(file)) problems.push(`has ${file}, which nobody asked for`);
  if (size >= PLATFORM_BYTES_MAX)
    problems.push(`is ${bytes(size)} unpacked, the limit is ${bytes(PLATFORM_BYTES_MAX)}`);
  return problems;
}

async function judgeBinary(
  inspection: Inspection,
  one: Opened,
  platform: Platform,
  report: string[],
): Promise<string[]> {
  const path = join(one.folder, platform.binary);
  if (!existsSync(path)) return [`has no ${platform.binary}`];
  try {
    const { problems, words } = await judgeElf(path, platform, inspection.glibcMax);
    report.push(`${platform.packageName}: ${bytes(one.bytes)} unpacked, ${packed(one)}; ${words}`);
    return problems;
  } catch (error) {
    return [`${platform.binary} cannot be read: ${oneLine(error)}`];
  }
}

function packed({ tarball }: Opened): string {
  return `${bytes(statSync(tarball).size)} packed`;
}
