// The door `npm run coverage`: which lines of the mind (crates/kcopyd/src/copy) the core's and the simulator's tests run. Fails if
// one is not run, and names it. Not counted are tests inside the files, planted bugs (`canary!`) and what says of itself that it
// cannot be reached (`unreachable!`). It installs cargo-llvm-cov below target/ if it is not
// there, and LLVM's tools of the compiler's own version by apt-get.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { checkTools, onPath, root, step } from './setup.mjs';

const MIND = 'crates/kcopyd/src/copy/';
const CARGO_LLVM_COV = '0.9.1';
const TARGET = join(root, 'target', 'coverage');
const TOOLS = join(root, 'target', 'tools');
const LCOV = join(TARGET, 'lcov.info');
/** What is run: everything that the mind alone is run by. */
const TESTS = ['-p', 'kcopyd', '-p', 'kcopyd-sim', '--lib', '--test', 'mind', '--test', 'simulator'];

checkTools();
mkdirSync(TARGET, { recursive: true });
const env = { ...process.env, ...llvm(), CARGO_TARGET_DIR: TARGET, PATH: `${join(TOOLS, 'bin')}:${process.env.PATH}` };
if (!onPath('cargo-llvm-cov') && !existsSync(join(TOOLS, 'bin', 'cargo-llvm-cov'))) {
  step(`installing cargo-llvm-cov ${CARGO_LLVM_COV} below target/`);
  must('cargo', ['install', '--quiet', '--locked', '--root', TOOLS, `cargo-llvm-cov@${CARGO_LLVM_COV}`]);
}
must('cargo', ['llvm-cov', 'test', '--locked', ...TESTS, '--lcov', '--output-path', LCOV]);

const files = covered(readFileSync(LCOV, 'utf8'));
let missed = 0;
for (const { path, lines, never } of files) {
  step(`${path}: ${lines - never.length} of ${lines} lines`);
  const text = readFileSync(join(root, path), 'utf8').split('\n');
  for (const line of never) console.log(`  never run: ${path}:${line}: ${text[line - 1].trim()}`);
  missed += never.length;
}
const lines = files.reduce((sum, file) => sum + file.lines, 0);
step(`${lines - missed} of ${lines} lines of the mind are run by its tests`);
process.exitCode = files.length > 0 && missed === 0 ? 0 : 1;

/** What the report says of each file of the mind: how many lines there are, and which never ran. */
function covered(report) {
  const found = [];
  for (const record of report.split('end_of_record')) {
    const path = new RegExp(`^SF:.*?(${MIND}.*)$`, 'm').exec(record)?.[1];
    if (path === undefined) continue;
    const source = readFileSync(join(root, path), 'utf8');
    const counts = countedLines(source);
    const counted = [...record.matchAll(/^DA:(\d+),(\d+)/gm)].map(([, line, count]) => [Number(line), Number(count)]);
    const own = counted.filter(([line]) => counts(line));
    found.push({ path, lines: own.length, never: own.filter(([, count]) => count === 0).map(([line]) => line) });
  }
  return found.sort((one, other) => (basename(one.path) < basename(other.path) ? -1 : 1));
}

/** Which lines are counted. */
function countedLines(source) {
  const lines = source.split('\n');
  const tests = lines.findIndex((line, index) => line === '#[cfg(test)]' && lines[index + 1]?.startsWith('mod '));
  const left = new Set();
  for (const [index, line] of lines.entries()) {
    if (line.includes('unreachable!(')) left.add(index + 1);
    if (!/canary!\(.*=> \{$/.test(line)) continue;
    // A match arm of a planted bug: up to the brace that closes it.
    const closing = `${/^ */.exec(line)[0]}}`;
    for (let arm = index; lines[arm] !== closing; arm++) left.add(arm + 1);
  }
  return (line) => (tests < 0 || line <= tests) && !left.has(line);
}

/** LLVM's tools read what a compiler of the same version has written. */
function llvm() {
  const said = spawnSync('rustc', ['-vV'], { encoding: 'utf8' }).stdout;
  const major = /LLVM version: (\d+)/.exec(said)?.[1];
  const sysroot = spawnSync('rustc', ['--print', 'sysroot'], { encoding: 'utf8' }).stdout.trim();
  const own = join(sysroot, 'lib', 'rustlib', /host: (.*)/.exec(said)?.[1] ?? '', 'bin');
  if (existsSync(join(own, 'llvm-cov'))) return {};
  const [cov, profdata] = [`llvm-cov-${major}`, `llvm-profdata-${major}`];
  if (!onPath(cov) && process.geteuid() === 0 && onPath('apt-get')) {
    step(`installing llvm-${major} (apt-get)`);
    const options = { stdio: 'ignore', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
    const install = ['install', '--yes', '--quiet', '--no-install-recommends', `llvm-${major}`];
    if (spawnSync('apt-get', install, options).status !== 0) {
      spawnSync('apt-get', ['update', '--quiet'], options);
      spawnSync('apt-get', install, options);
    }
  }
  if (!onPath(cov)) {
    console.error(
      `kcopyd: LLVM ${major}'s tools are not here: rustup component add llvm-tools, or install llvm-${major}`,
    );
    process.exit(1);
  }
  return { LLVM_COV: cov, LLVM_PROFDATA: profdata };
}

function must(program, args) {
  step([program, ...args].join(' '));
  const { status } = spawnSync(program, args, { cwd: root, stdio: 'inherit', env });
  if (status !== 0) process.exit(1);
}
