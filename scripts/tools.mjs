// Looks whether this machine can build the project and says in one line what to install if it cannot. With --install it
// also installs the packages of the lock file when they are missing or older than it. It knows nothing of the project itself.
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const RUST_MIN = [1, 88];

const root = fileURLToPath(new URL('..', import.meta.url));

function fail(line) {
  console.error(`kcopyd: ${line}`);
  process.exit(1);
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const good = (major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22;
  if (!good) fail(`Node.js ${process.version} is too old: install Node.js 20.19 or newer (https://nodejs.org)`);
}

function checkRust() {
  const { stdout, error } = spawnSync('cargo', ['--version'], { encoding: 'utf8' });
  const found = /cargo (\d+)\.(\d+)/.exec(stdout ?? '');
  const wanted = RUST_MIN.join('.');
  if (error || !found)
    fail(`no Rust here: install Rust ${wanted} or newer (https://rustup.rs, or your distribution's cargo)`);
  const [major, minor] = [Number(found[1]), Number(found[2])];
  const good = major > RUST_MIN[0] || (major === RUST_MIN[0] && minor >= RUST_MIN[1]);
  if (!good) fail(`Rust ${major}.${minor} is too old: install Rust ${wanted} or newer (rustup update)`);
}

function modified(path) {
  return statSync(`${root}/${path}`, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

function install() {
  if (modified('node_modules/.package-lock.json') >= modified('package-lock.json')) return;
  const { status } = spawnSync('npm', ['ci'], { cwd: root, stdio: 'inherit' });
  if (status !== 0) fail('npm ci failed; its own words are above');
}

checkNode();
if (process.platform !== 'linux') fail(`the native part builds on Linux only, this is ${process.platform}`);
checkRust();
if (process.argv.includes('--install')) install();
