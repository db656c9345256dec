// The door `npm run check`: format, lints, types, documentation and the house's rules. All are run, also after one has failed.
import { spawnSync } from 'node:child_process';
import { build, checkTools, installPackages, root, step } from './setup.mjs';

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
];

checkTools();
installPackages();
// The tests' types are those of the built package.
build(['build:ts']);

const failed = [];
for (const { name, command, env } of CHECKS) {
  const [program, ...args] = command;
  step(`${name}: ${command.join(' ')}`);
  const { status } = spawnSync(program, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } });
  if (status !== 0) failed.push(name);
}
step(failed.length === 0 ? `all ${CHECKS.length} checks passed` : `failed: ${failed.join(', ')}`);
process.exitCode = failed.length === 0 ? 0 : 1;
