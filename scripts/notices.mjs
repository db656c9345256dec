// Writes THIRD-PARTY-NOTICES.md: whose code is in what kcopyd publishes, and under which terms. That is the crates that are linked
// into the native part on any platform, Rust's standard library, and the libraries bundled into the command. Terms are read
// from the packages themselves, as cargo and npm have them on this machine.
//   node scripts/notices.mjs            writes it (npm run notices)
//   node scripts/notices.mjs --check    fails if it is stale
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { bundle } from './build-cli.mjs';
import { root } from './setup.mjs';

const FILE = join(root, 'THIRD-PARTY-NOTICES.md');
const TARGETS = ['gnu', 'musl'].flatMap((libc) => ['x86_64', 'aarch64'].map((cpu) => `${cpu}-unknown-linux-${libc}`));
/** Where there is a choice of terms, the first of these that a package offers. */
const CHOICE = ['MIT', 'ISC', 'Apache-2.0'];

const RUST = {
  name: 'the standard library of Rust',
  version: 'of the compiler that built the native part',
  terms: 'MIT OR Apache-2.0; on musl with libunwind of LLVM, Apache-2.0 WITH LLVM-exception',
  text: mit('The Rust Project Contributors'),
};

/** The terms of MIT for a package that names them and brings no text. */
function mit(holders) {
  const ours = readFileSync(join(root, 'LICENSE'), 'utf8');
  return ours.replace(/^Copyright.*$/m, `Copyright (c) ${holders}`).trim();
}

/** The packages that `kcopyd-node` links on a target: no build scripts, no procedural macros, nothing of tests. */
function cratesOf(target) {
  const args = ['metadata', '--format-version=1', '--locked', `--filter-platform=${target}`];
  const { status, stdout, stderr } = spawnSync('cargo', args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`cargo metadata: ${stderr}`);
  const { packages, resolve } = JSON.parse(stdout);
  const byId = new Map(packages.map((each) => [each.id, each]));
  const nodes = new Map(resolve.nodes.map((node) => [node.id, node]));
  const isMacro = (id) => byId.get(id).targets.some(({ kind }) => kind.includes('proc-macro'));
  const isLinked = ({ pkg, dep_kinds }) => dep_kinds.some(({ kind }) => kind === null) && !isMacro(pkg);
  const found = new Set();
  const waiting = [packages.find(({ name }) => name === 'kcopyd-node').id];
  for (let id = waiting.pop(); id; id = waiting.pop()) {
    if (found.has(id)) continue;
    found.add(id);
    waiting.push(
      ...nodes
        .get(id)
        .deps.filter(isLinked)
        .map(({ pkg }) => pkg),
    );
  }
  const ours = new Set(resolve.nodes.map(({ id }) => id).filter((id) => byId.get(id).source === null));
  return [...found].filter((id) => !ours.has(id)).map((id) => byId.get(id));
}

function crates() {
  const all = new Map(TARGETS.flatMap(cratesOf).map((each) => [each.id, each]));
  return [...all.values()].map(({ name, version, license, manifest_path, authors, repository }) => {
    const holders = authors.length > 0 ? authors.join(', ') : `the authors of ${repository}`;
    return { name, version, terms: license, text: termsIn(dirname(manifest_path), license, name, holders) };
  });
}

/** The libraries in the command, by what esbuild says went into it. */
async function libraries() {
  const { metafile } = await bundle({ write: false, metafile: true });
  const names = Object.keys(metafile.inputs).map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]);
  return [...new Set(names.filter(Boolean))].map((name) => {
    const home = join(root, 'node_modules', name);
    const { version, license } = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8'));
    return { name, version, terms: license, text: termsIn(home, license, name) };
  });
}

/** The text of the terms that we take of those that a package offers. */
function termsIn(home, license, name, holders) {
  const offered = license.split(/\s+OR\s+|\//).map((each) => each.trim());
  const chosen = CHOICE.find((each) => offered.includes(each)) ?? offered[0];
  const files = readdirSync(home).filter((file) => /^(un)?licen[sc]e|^copying/i.test(file));
  const short = chosen.split('-')[0].toLowerCase();
  const file = files.find((each) => each.toLowerCase().includes(short)) ?? (files.length === 1 ? files[0] : undefined);
  if (files.length === 0 && chosen === 'MIT' && holders) return mit(holders);
  if (!file) throw new Error(`${name}: which of ${files.join(', ') || 'no files'} has the terms of ${chosen}?`);
  return readFileSync(join(home, file), 'utf8')
    .replaceAll('\r\n', '\n')
    .replaceAll(/[ \t]+$/gm, '')
    .trim();
}

/** Those with the same text together. */
function section(title, packages) {
  const byText = new Map();
  for (const each of packages) byText.set(each.text, [...(byText.get(each.text) ?? []), each]);
  const parts = [...byText].map(([text, those]) => {
    const names = those.map(({ name, version, terms }) => `- ${name} ${version} (${terms})`).sort();
    return { names, text };
  });
  parts.sort((a, b) => a.names[0].localeCompare(b.names[0], 'en'));
  const written = parts.map(({ names, text }) => `${names.join('\n')}\n\n\`\`\`text\n${text}\n\`\`\``);
  return `## ${title}\n\n${written.join('\n\n')}`;
}

const HEAD = `# Third-party notices

kcopyd is under the terms in [LICENSE](LICENSE). What it publishes also contains the following, under terms of their own. Where there is a
choice, the terms printed are the ones that kcopyd takes. This file is written by \`npm run notices\`, and \`npm run check\` fails when
it is not what the lock files say.`;

const text = `${[
  HEAD,
  section('Linked into the native part', [...crates(), RUST]),
  section('Bundled into the command', await libraries()),
].join('\n\n')}\n`;

if (process.argv.includes('--check')) {
  if (!existsSync(FILE) || readFileSync(FILE, 'utf8') !== text) {
    console.error('THIRD-PARTY-NOTICES.md is not what the lock files say: npm run notices');
    process.exitCode = 1;
  }
} else {
  writeFileSync(FILE, text);
}
