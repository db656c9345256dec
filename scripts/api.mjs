// Writes docs/API.md from the TSDoc of index.ts, by typedoc; fails if a public member has no description, if a link leads nowhere, or
// if something is named that is not exported. typedoc wants an older TypeScript, so it is installed apart, in scripts/api.
//   node scripts/api.mjs            writes it (npm run api)
//   node scripts/api.mjs --check    fails if it is stale
import { spawnSync } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, step } from './setup.mjs';

const HOME = join(root, 'scripts', 'api');
const MADE = join(root, 'target', 'api', 'README.md');
const FILE = join(root, 'docs', 'API.md');
const HEAD = `# API reference

Written from the comments in \`index.ts\` by \`npm run api\`; \`npm run check\` fails when it is stale. Numbers such as P9 are those of
[PROMISES.md](PROMISES.md); programs are in [GUIDE.md](GUIDE.md).
`;

function run(program, args) {
  const { status, error } = spawnSync(program, args, { cwd: HOME, stdio: 'inherit' });
  if (status !== 0) {
    console.error(`kcopyd: ${program} ${args.join(' ')}: ${error?.message ?? 'failed; its own words are above'}`);
    process.exit(1);
  }
}

function modified(path) {
  return statSync(join(HOME, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

if (modified('node_modules/.package-lock.json') < modified('package-lock.json')) {
  step('installing typedoc (npm ci in scripts/api)');
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
}
run(process.execPath, ['node_modules/typedoc/bin/typedoc', '--logLevel', 'Warn']);

const body = readFileSync(MADE, 'utf8').replace(/^# API\n/, '');
const text = `${HEAD}${body.replaceAll(/[ \t]+$/gm, '')}`;
if (!process.argv.includes('--check')) {
  writeFileSync(FILE, text);
} else if (readFileSync(FILE, 'utf8') !== text) {
  console.error('kcopyd: docs/API.md is not what index.ts says: npm run api');
  process.exitCode = 1;
}
