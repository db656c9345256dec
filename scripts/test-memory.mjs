// The door `npm run test:memory`: the core's tests and the addon under AddressSanitizer and LeakSanitizer, every order of threads
// at the post and the doorbell under loom, and a run that looks for leaks. docs/TESTING.md says what is promised.
//   npm run test:memory                     all of it, as long as CI has time for
//   npm run test:memory -- --release        longer: more of the addon's tests, more orders, ten times the jobs
//   npm run test:memory -- core leak        only these of: core addon threads leak
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { countCargo, report, run, vitest } from './running.mjs';
import { checkTools, root, setUpLaboratory, step } from './setup.mjs';

const PARTS = { core, addon, threads, leak };
const TARGET = 'target/sanitized';
const TARGET_ADDON = 'target/sanitized-addon';
const RUSTFLAGS = ['-Zsanitizer=address', '-Cforce-frame-pointers=yes'];
// In a shared library the sanitizer's run-time part is not Rust's own: Node has to have it from the beginning.
const RUSTFLAGS_ADDON = [...RUSTFLAGS, '-Zexternal-clangrt'];
/** Memory that the kernel may still write to is left alone (rule 9 of the engine's contract); these are the tests of that. */
const LEAKS_ON_PURPOSE = [
  'rule_9_memory_is_leaked_when_the_kernel_cannot_be_asked_for_its_requests',
  'p32_what_is_in_flight_is_given_up_when_the_ring_is_refused_for_good',
  'a_leaked_arena_stays_mapped',
  'p26_a_refused_system_call_makes_the_engine_unavailable_and_says_why',
];
const REPORTS = join(root, TARGET, 'reports');
/** Tests of the face that go through every room of the addon: jobs, callbacks, aborts, errors, ends of workers and processes. */
const ADDON = ['test/abort', 'test/callbacks', 'test/copy.test', 'test/lifecycle', 'test/submit_copy'];
/** Everything else that does not measure time. */
const ADDON_RELEASE = [
  ...ADDON,
  'test/client.test',
  'test/device',
  'test/durability',
  'test/errors',
  'test/options',
  'test/outcome',
  'test/progress',
  'test/safety',
  'test/sequential',
  'test/zero',
];

/** All but a test whose jobs are over before its abort where JavaScript is as slow as here. */
const IN_TIME = '^(?!.*a signal of the caller.s own making)';

const args = process.argv.slice(2);
const isRelease = args.includes('--release');
const chosen = args.filter((argument) => argument !== '--release');
const unknown = chosen.find((part) => !(part in PARTS));
if (unknown !== undefined) {
  console.error(`kcopyd: ${unknown} is none of ${Object.keys(PARTS).join(', ')}`);
  process.exit(2);
}

checkTools();
const facilities = await setUpLaboratory();

const host = /host: (.*)/.exec(spawnSync('rustc', ['-vV'], { encoding: 'utf8' }).stdout)[1];
// The C compiler that links Rust programs brings it.
const runtime = spawnSync('cc', ['-print-file-name=libasan.so'], { encoding: 'utf8' }).stdout.trim();
const runs = [];
for (const part of chosen.length > 0 ? chosen : Object.keys(PARTS)) runs.push(...(await PARTS[part]()));
report(runs, await facilities());

/** The core's own tests, each program with the sanitizer in it; what it leaves behind unfreed is a leak. */
async function core() {
  const programs = ['client', 'device', 'block_device', 'engine_contract', 'engines_agree', 'mind'];
  const tests = ['--lib', ...programs.flatMap((program) => ['--test', program])];
  const test = ['test', '--locked', '--no-fail-fast', '-p', 'kcopyd', ...tests, ...cargoTarget(TARGET)];
  const skips = LEAKS_ON_PURPOSE.flatMap((name) => ['--skip', name]);
  const all = await sanitizedRun('core under AddressSanitizer', [...test, '--', ...skips], 'detect_leaks=1');
  const on = [...test, '--', ...LEAKS_ON_PURPOSE];
  return [all, await sanitizedRun('the same, tests that leak on purpose', on, 'detect_leaks=0')];
}

async function sanitizedRun(name, test, leaks) {
  step(`cargo ${test.join(' ')}, with AddressSanitizer, ${leaks}`);
  clearReports();
  const env = { ...sanitized(RUSTFLAGS), ASAN_OPTIONS: asan(leaks) };
  const { code, printed } = await run('cargo', test, env);
  return judged(name, { code, ...countCargo(printed) });
}

/** The addon in Node, with the sanitizer under both. Node itself frees little at its end, so leaks are the leak run's. */
async function addon() {
  if (!existsSync(runtime)) return skipped('addon', 'the C compiler has no libasan');
  const build = ['build', '--locked', '-p', 'kcopyd-node', ...cargoTarget(TARGET_ADDON)];
  step(`cargo ${build.join(' ')}, with AddressSanitizer`);
  const { code } = await run('cargo', build, sanitized(RUSTFLAGS_ADDON));
  if (code !== 0) return [{ name: 'addon under AddressSanitizer', code, passed: 0, failed: 1, skipped: 0 }];
  const library = join(root, TARGET_ADDON, host, 'debug', 'libkcopyd_node.so');
  clearReports();
  const env = { LD_PRELOAD: runtime, ASAN_OPTIONS: asan('detect_leaks=0'), KCOPYD_NATIVE_LIBRARY_PATH: library };
  const sees = await seesPlantedBug(env);
  const files = isRelease ? ADDON_RELEASE : ADDON;
  const result = await vitest('addon', ['--config', 'vitest.memory.config.ts', '-t', IN_TIME, ...files], env);
  return [sees, judged('addon under AddressSanitizer', result)];
}

/** That the sanitizer would see it: the same Node with a library that uses memory after it has freed it. */
async function seesPlantedBug(env) {
  const library = join(root, TARGET_ADDON, 'use_after_free.so');
  const source = join(root, 'scripts/memory/use_after_free.rs');
  const flags = ['--edition', '2024', '--crate-type', 'cdylib', ...RUSTFLAGS_ADDON, '-o', library, source];
  await run('rustc', flags, { RUSTC_BOOTSTRAP: '1' });
  const script = `process.dlopen({ exports: {} }, ${JSON.stringify(library)})`;
  // A threat that is no report of the addon's.
  const options = { ...process.env, ...env, ASAN_OPTIONS: 'detect_leaks=0' };
  const { stderr } = spawnSync(process.execPath, ['--eval', script], { encoding: 'utf8', env: options });
  const seen = stderr.includes('heap-use-after-free') && stderr.includes('14use_after_free');
  if (!seen) console.error(`a planted bug was not seen; Node said: ${stderr}`);
  return { name: 'a planted bug is seen', code: seen ? 0 : 1, passed: Number(seen), failed: Number(!seen), skipped: 0 };
}

/** Every order in which the threads at the post and at the doorbell can meet. */
async function threads() {
  const test = ['test', '--locked', '-p', 'kcopyd', '--lib', '--target-dir', 'target/loom', 'orders::'];
  step(`cargo ${test.join(' ')}, with loom's threads`);
  const preemptions = isRelease ? '4' : '3';
  const { code, printed } = await run('cargo', test, { RUSTFLAGS: '--cfg loom', LOOM_MAX_PREEMPTIONS: preemptions });
  return [{ name: 'threads under loom', code, ...countCargo(printed) }];
}

/** Jobs and clients by the thousand: nothing of them stays. */
async function leak() {
  const times = isRelease ? 10 : 1;
  const env = { KCOPYD_TEST_JOBS: String(100_000 * times), KCOPYD_TEST_CLIENTS: String(1_000 * times) };
  return [await vitest('leak', ['--config', 'vitest.memory.config.ts', 'test/memory'], env)];
}

/** A run without a report of the sanitizer's; the reports are shown. */
function judged(name, result) {
  const reports = readdirSync(REPORTS).map((file) => readFileSync(join(REPORTS, file), 'utf8'));
  for (const text of reports) console.error(text);
  if (reports.length === 0) return { name, ...result };
  return { name, ...result, code: 1, failed: result.failed + reports.length };
}

function skipped(name, why) {
  step(`${name}: skipped, ${why}`);
  return [{ name, code: 0, passed: 0, failed: 0, skipped: 1 }];
}

function asan(leaks) {
  return `${leaks}:log_path=${join(REPORTS, 'asan')}`;
}

function clearReports() {
  rmSync(REPORTS, { recursive: true, force: true });
  mkdirSync(REPORTS, { recursive: true });
}

function cargoTarget(directory) {
  return ['--target', host, '--target-dir', directory];
}

function sanitized(flags) {
  // Sanitizers are not stable yet, but in every stable compiler.
  return { RUSTC_BOOTSTRAP: '1', RUSTFLAGS: flags.join(' ') };
}
