// The one version, wherever it stands: changes it everywhere at once, or says where it differs. It publishes nothing, and makes no
// commit and no tag: CONTRIBUTING.md says what comes next.
//   npm run bump -- 1.2.3             that version; or patch, minor, major
//   node scripts/bump.mjs --check     fails if the places do not agree; with --tag v1.2.3 that is one of them
//   --at DIR                          another checkout than this one
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { root } from './setup.mjs';

const VERSION = String.raw`\d+\.\d+\.\d+(?:-[\w.]+)?`;
const CRATES = ['kcopyd', 'kcopyd-node', 'kcopyd-sim'];
const UNRELEASED = '## Unreleased\n';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { check: { type: 'boolean' }, tag: { type: 'string' }, at: { type: 'string', default: root } },
});
const top = values.at;

/** A place: a file, and what stands around the version there. Every one must be found exactly once. */
function places() {
  const lock = CRATES.map((name) => place('Cargo.lock', `name = "${name}"\nversion = "`, '"'));
  return [
    place('package.json', '\n  "version": "', '"'),
    place('package-lock.json', '\n  "version": "', '"'),
    place('package-lock.json', '"packages": {\n    "": {\n      "name": "kcopyd",\n      "version": "', '"'),
    place('Cargo.toml', '[workspace.package]\nversion = "', '"'),
    ...lock,
    place('src/version.ts', "VERSION = '", "'"),
  ];
}

function place(file, before, after) {
  const pattern = new RegExp(`(?<=${escaped(before)})${VERSION}(?=${escaped(after)})`, 'g');
  const found = [...read(file).matchAll(pattern)];
  if (found.length !== 1) throw new Error(`${file}: ${found.length} versions after ${JSON.stringify(before)}, not one`);
  return { file, pattern, version: found[0][0], what: `${file} (${before.trim()})` };
}

function escaped(text) {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

function read(file) {
  return readFileSync(join(top, file), 'utf8');
}

/** The newest version that the changelog has a heading for. */
function newestInChangelog() {
  return new RegExp(`^## (${VERSION})`, 'm').exec(read('CHANGELOG.md'))?.[1] ?? 'none';
}

function check() {
  const { version } = JSON.parse(read('package.json'));
  const others = [...places(), { what: 'CHANGELOG.md (the newest heading)', version: newestInChangelog() }];
  if (values.tag !== undefined) others.push({ what: 'the tag', version: values.tag.replace(/^v/, '') });
  const wrong = others.filter((other) => other.version !== version);
  for (const other of wrong) console.error(`${other.what} is ${other.version}, package.json is ${version}`);
  if (wrong.length > 0) process.exitCode = 1;
  else console.log(`${version} in ${others.length} places`);
}

function next(current, wanted) {
  const [major, minor, patch] = current.split('-')[0].split('.').map(Number);
  const steps = { major: [major + 1, 0, 0], minor: [major, minor + 1, 0], patch: [major, minor, patch + 1] };
  const version = steps[wanted]?.join('.') ?? wanted;
  if (!new RegExp(`^${VERSION}$`).test(version)) throw new Error(`${wanted} is no version, nor major, minor, patch`);
  return version;
}

function bump(wanted) {
  const { version: current } = JSON.parse(read('package.json'));
  const version = next(current, wanted);
  const changelog = dated(read('CHANGELOG.md'), version);
  for (const { file, pattern } of places()) write(file, read(file).replace(pattern, version));
  write('CHANGELOG.md', changelog);
  console.log(`${current} is now ${version}; next: a commit, the tag v${version} (CONTRIBUTING.md)`);
}

/** The changelog with a heading for the version: the one that waits for it, or one above what is unreleased. */
function dated(changelog, version) {
  const heading = `## ${version} - ${new Date().toISOString().slice(0, 10)}`;
  const waiting = `## ${version} (not yet published)`;
  if (changelog.includes(waiting)) return changelog.replace(waiting, heading);
  const [, notes = ''] = new RegExp(`^${UNRELEASED}(.*?)(?=^## )`, 'ms').exec(changelog) ?? [];
  if (notes.trim() === '')
    throw new Error(`CHANGELOG.md has nothing under "${UNRELEASED.trim()}": say what is new first`);
  return changelog.replace(UNRELEASED, `${UNRELEASED}\n${heading}\n`);
}

function write(file, text) {
  writeFileSync(join(top, file), text);
}

try {
  if (values.check) check();
  else if (positionals.length === 1) bump(positionals[0]);
  else throw new Error('npm run bump -- VERSION, or patch, minor, major');
} catch (error) {
  console.error(`kcopyd: ${error.message}`);
  process.exitCode = 1;
}
