// Publishes the tarballs of a release (`npm run pack` made them, the gate has seen them): the platforms' packages first, the package that
// names them last, and only once the registry shows every one of them, so that nobody installs it without its native part. What
// is there already is left alone, so a release that broke off is run again. Run by the workflow `release.yml` alone.
//   node scripts/publish.mjs DIRECTORY              publishes, with provenance
//   node scripts/publish.mjs DIRECTORY --dry-run    only says what it would do, in which order
//   node scripts/publish.mjs DIRECTORY --no-provenance    for a registry of one's own, where nobody vouches for anything
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';

const SHOWN_MS = Number(process.env.KCOPYD_PUBLISH_WAIT_MS ?? 600_000);
const ASK_AGAIN_MS = Math.min(10_000, SHOWN_MS / 10);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { 'dry-run': { type: 'boolean' }, 'no-provenance': { type: 'boolean' } },
});

/** Runs a program; what it printed, or undefined if it failed and that is allowed. */
function run(program, args, mayFail = false) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8' });
  if (status === 0) return stdout;
  if (mayFail && !error) return undefined;
  throw new Error(`${program} ${args.join(' ')}: ${error?.message ?? (stderr.trim() || `exit ${status}`)}`);
}

/** A tarball, with what its package.json says. */
function look(path) {
  const { name, version, optionalDependencies = {} } = JSON.parse(run('tar', ['-xOzf', path, 'package/package.json']));
  return { path, name, version, needs: Object.entries(optionalDependencies).map(([of, at]) => `${of}@${at}`) };
}

/** Whether the registry shows a version; it prints nothing for one that it does not know. */
function isShown(spec) {
  return (run('npm', ['view', spec, 'version', '--prefer-online'], true) ?? '').trim() !== '';
}

/** Whether it was not there yet: a registry may know what it does not show yet. */
function upload(path, version) {
  const tag = version.includes('-') ? 'next' : 'latest';
  try {
    const vouched = values['no-provenance'] ? [] : ['--provenance'];
    run('npm', ['publish', path, ...vouched, '--access', 'public', '--tag', tag]);
    return true;
  } catch (error) {
    if (/publish over the previously published/.test(error.message)) return false;
    throw error;
  }
}

async function waitFor(specs) {
  const end = Date.now() + SHOWN_MS;
  for (const spec of specs) {
    while (!isShown(spec)) {
      if (Date.now() > end)
        throw new Error(`${spec} is published and the registry does not show it: run this again later`);
      await setTimeout(ASK_AGAIN_MS);
    }
  }
}

/** Those that need nothing first. What is needed must be among them: a package of another run may have another version. */
function inOrder(packages) {
  const specs = new Set(packages.map(({ name, version }) => `${name}@${version}`));
  for (const { name, needs } of packages) {
    const absent = needs.filter((spec) => !specs.has(spec));
    if (absent.length > 0) throw new Error(`${name} needs ${absent.join(', ')}, which is not here`);
  }
  const versions = new Set(packages.map(({ version }) => version));
  if (versions.size !== 1) throw new Error(`not one version: ${[...versions].join(', ')}`);
  const last = packages.filter(({ needs }) => needs.length > 0);
  if (last.length !== 1) throw new Error(`${last.length} packages name the others, not one`);
  return [...packages.filter(({ needs }) => needs.length === 0), ...last];
}

async function publish(directory) {
  const files = readdirSync(directory).filter((name) => name.endsWith('.tgz'));
  for (const { path, name, version, needs } of inOrder(files.sort().map((file) => look(join(directory, file))))) {
    const spec = `${name}@${version}`;
    if (values['dry-run']) {
      console.log(`would publish ${spec}`);
    } else if (isShown(spec)) {
      console.log(`${spec} is there already`);
    } else {
      await waitFor(needs);
      console.log(upload(path, version) ? `published ${spec}` : `${spec} is there already`);
    }
  }
}

try {
  if (positionals.length !== 1) throw new Error('node scripts/publish.mjs DIRECTORY [--dry-run]');
  await publish(positionals[0]);
} catch (error) {
  console.error(`kcopyd: ${error.message}`);
  process.exitCode = 1;
}
