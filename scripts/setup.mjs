// Gets a fresh machine ready for the project's doors: looks for Node and Rust and says in one line what to install if they are
// missing, installs the packages of the lock file, builds what is older than its sources, and installs what the tests make
// faulty devices with. It knows nothing of what is run afterwards.
//   node scripts/setup.mjs            everything that the project needs
//   node scripts/setup.mjs --check    only looks for Node and Rust
import { spawnSync } from 'node:child_process';
import { accessSync, constants, readdirSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const RUST_MIN = [1, 88];
const APT_MS = 300_000;

/** The top of the checkout. */
export const root = fileURLToPath(new URL('..', import.meta.url));

/** What the tests and the demo use beside kcopyd, and the Debian package that it is in. */
const LABORATORY = {
  losetup: 'mount',
  mount: 'mount',
  blockdev: 'util-linux',
  'mkfs.ext4': 'e2fsprogs',
  'mkfs.btrfs': 'btrfs-progs',
  'mkfs.xfs': 'xfsprogs',
  nbdkit: 'nbdkit',
  nbdfuse: 'libnbd-bin',
  fusermount3: 'fuse3',
  strace: 'strace',
};

// Without this the report looks up the name of every peer of every socket.
process.report.excludeNetwork = true;
const LIBC = process.report.getReport().header.glibcVersionRuntime ? 'gnu' : 'musl';

/** What is built, from what, by which npm script. */
const PARTS = [
  {
    script: 'build:native',
    from: ['crates', 'Cargo.toml', 'Cargo.lock'],
    made: `native/kcopyd.linux-${process.arch}-${LIBC}.node`,
  },
  { script: 'build:ts', from: ['index.ts', 'src', 'tsconfig.json', 'tsconfig.build.json'], made: 'dist/index.js' },
  { script: 'build:cli', from: ['cli', 'scripts/build-cli.mjs', 'package-lock.json'], made: 'dist/cli/kcopyd.js' },
];

function fail(line) {
  console.error(`kcopyd: ${line}`);
  process.exit(1);
}

/** Ends the process, with one line on what to install, if the project cannot be built here. */
export function checkTools() {
  checkNode();
  checkRust('cargo');
  checkRust('rustc');
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const newEnough = (major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22;
  if (!newEnough) fail(`Node.js ${process.version} is too old: install Node.js 20.19 or newer (https://nodejs.org)`);
  if (process.platform !== 'linux') fail(`the native part builds on Linux only, this is ${process.platform}`);
}

function checkRust(tool) {
  const { stdout, error } = spawnSync(tool, ['--version'], { cwd: root, encoding: 'utf8' });
  const found = new RegExp(`${tool} (\\d+)\\.(\\d+)`).exec(stdout ?? '');
  const wanted = RUST_MIN.join('.');
  const how = "https://rustup.rs, or your distribution's packages";
  if (error || !found) fail(`${tool} is not here: install Rust ${wanted} or newer (${how})`);
  const [major, minor] = [Number(found[1]), Number(found[2])];
  const newEnough = major > RUST_MIN[0] || (major === RUST_MIN[0] && minor >= RUST_MIN[1]);
  if (!newEnough) fail(`${tool} ${major}.${minor} is too old: install Rust ${wanted} or newer (rustup update)`);
}

/** Installs the packages of the lock file when they are missing or older than it. */
export function installPackages() {
  if (modified('node_modules/.package-lock.json') >= modified('package-lock.json')) return;
  step('installing the development packages (npm ci)');
  // Advice of npm for whoever maintains the packages is noise to whoever only runs them; errors are printed still.
  npm(['ci', '--no-audit', '--no-fund', '--loglevel=error']);
}

/** Builds each part that is missing or older than its sources. */
export function build(scripts = PARTS.map(({ script }) => script)) {
  for (const { script, from, made } of PARTS) {
    if (!scripts.includes(script) || isMade(made, from)) continue;
    step(`building ${made}${script === 'build:native' ? ' (cargo, some minutes the first time)' : ''}`);
    npm(['run', '--silent', script]);
  }
}

function isMade(made, from) {
  return modified(made) > Math.max(...from.map(newest));
}

/**
 * Everything that tests with real devices need, with what killed runs left cleared away. Returns what says, for people, which of it
 * there was and which not.
 */
export async function setUpLaboratory() {
  setUp();
  const missing = installLaboratory();
  // Not before the packages are there, with which TypeScript is read.
  const { importTypeScript } = await import('./typescript.mjs');
  const { facilities, sweep } = await importTypeScript('scripts/laboratory.ts');
  for (const left of await sweep()) step(`cleared away what a killed run left: ${left}`);
  return async () => [...(await facilities()), ...missing];
}

/** Installs what faulty devices are made with, where that needs no question; returns what is missing and why, for people. */
export function installLaboratory() {
  const absent = Object.keys(LABORATORY).filter((program) => !onPath(program));
  if (absent.length === 0) return [];
  const packages = [...new Set(absent.map((program) => LABORATORY[program]))];
  if (process.geteuid() !== 0 || !onPath('apt-get')) {
    const why = process.geteuid() === 0 ? 'there is no apt-get here' : 'not root';
    return [`${absent.join(', ')} not installed, and not to be installed by npm test (${why}): ${packages.join(' ')}`];
  }
  step(`installing ${packages.join(' ')} (apt-get), for tests with faulty devices`);
  const options = { stdio: 'ignore', timeout: APT_MS, env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
  const install = ['install', '--yes', '--quiet', '--no-install-recommends', ...packages];
  // Lists that are there already may do; asking for new ones takes longer than all the rest.
  if (spawnSync('apt-get', install, options).status !== 0) {
    spawnSync('apt-get', ['update', '--quiet'], options);
    spawnSync('apt-get', install, options);
  }
  const still = absent.filter((program) => !onPath(program));
  return still.length === 0
    ? []
    : [`${still.join(', ')} not installed: apt-get could not install ${packages.join(' ')}`];
}

function npm(args) {
  const { status } = spawnSync('npm', args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) fail(`npm ${args.join(' ')} failed; its own words are above`);
}

/** Says what is going on now. */
export function step(text) {
  console.log(`kcopyd: ${text}`);
}

function modified(path) {
  return statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** When the newest file at or below a path was changed. */
function newest(path) {
  const found = statSync(join(root, path), { throwIfNoEntry: false });
  if (!found) return 0;
  if (!found.isDirectory()) return found.mtimeMs;
  // A directory's own time tells of files that were taken away.
  return Math.max(found.mtimeMs, ...readdirSync(join(root, path)).map((name) => newest(join(path, name))));
}

/** Whether a program can be found, also where only root usually looks. */
export function onPath(program) {
  return `${process.env.PATH}${delimiter}/usr/sbin${delimiter}/sbin`.split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Everything that the project needs to run. */
export function setUp() {
  // Before the packages, which take a while. What is built already needs no Rust.
  const [native] = PARTS;
  if (isMade(native.made, native.from)) checkNode();
  else checkTools();
  installPackages();
  build();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes('--check')) checkTools();
  else setUp();
}
