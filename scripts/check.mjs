// The door `npm run check`: format, lints, types, documentation and the house's rules. All are run, also after one has failed.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { basename, delimiter, dirname } from 'node:path';
import { build, checkTools, installPackages, root, step } from './setup.mjs';
import { installTools, tool } from './tools.mjs';

const CHECKS = [
  { name: 'rustfmt', command: ['cargo', 'fmt', '--all', '--check'] },
  { name: 'clippy', command: ['cargo', 'clippy', '--workspace', '--all-targets', '--locked', '--', '-D', 'warnings'] },
  {
    name: 'rustdoc',
    command: ['cargo', 'doc', '--workspace', '--no-deps', '--locked', '--document-private-items'],
    env: { RUSTDOCFLAGS: '-D warnings' },
  },
  { name: 'biome', command: ['node_modules/.bin/biome', 'check', '--error-on-warnings'] },
  { name: 'types', command: ['node_modules/.bin/tsc', '-p', 'tsconfig.json'] },
  { name: 'tidy', command: ['cargo', 'test', '--quiet', '-p', 'kcopyd', '--test', 'tidy', '--locked'] },
  { name: 'promises', command: [process.execPath, 'scripts/promises.mjs', '--check'] },
  { name: 'reference', command: [process.execPath, 'scripts/api.mjs', '--check'] },
  { name: 'versions', command: [process.execPath, 'scripts/bump.mjs', '--check'] },
  { name: 'notices', command: [process.execPath, 'scripts/notices.mjs', '--check'] },
  { name: 'licences', command: [tool('cargo-deny'), 'check', 'licenses', 'bans', 'sources'] },
  { name: 'workflows', command: [tool('jactionlint'), '--no-color'] },
  { name: 'workflow security', command: [tool('zizmor'), '--offline', '--quiet', '--persona=pedantic', '.github'] },
  { name: 'shell scripts', command: [tool('shellcheck'), '.ci/run', 'scripts/try-package.sh'] },
];

checkTools();
installPackages();
// The tests' types are those of the built package.
build(['build:ts']);

const why = installTools();
// Linters of workflows lint what is inside with the linters of shells.
process.env.PATH = `${tool()}${delimiter}${process.env.PATH}`;
// One of them is started by a line of Python.
process.env.PYTHONPATH = dirname(tool());

const failed = [];
const left = [];
for (const { name, command, env } of CHECKS) {
  const [program, ...args] = command;
  if (program.startsWith(tool()) && !existsSync(program)) {
    left.push(`${name} (${why ?? `no ${basename(program)} for ${process.arch}`})`);
    continue;
  }
  step(`${name}: ${command.join(' ')}`);
  const { status } = spawnSync(program, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } });
  if (status !== 0) failed.push(name);
}
if (left.length > 0) step(`not run: ${left.join(', ')}`);
step(failed.length === 0 ? `all ${CHECKS.length - left.length} checks passed` : `failed: ${failed.join(', ')}`);
process.exitCode = failed.length === 0 ? 0 : 1;
