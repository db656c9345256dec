// Where the native part is missing, broken or not for this machine: the import works, support() answers, and the first use
// rejects with a code of its own and a text that names the package, the cause and the cure. Every binding here is really
// missing or really broken, in a folder like the one that npm makes, and every case runs in a process of its own.
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { run } from './support/command.js';
import { builtBinding, Installed, PLATFORM } from './support/installed.js';
import { isRoot, programs } from './support/machine.js';
import { test } from './support/test.js';

const { version } = createRequire(import.meta.url)('kcopyd/package.json') as { version: string };

/** What the package says of itself where it cannot run; `PRELUDE` may change what it believes of the machine. */
const LOOK = `
  import { Device, KcopydClient, KcopydError, support, Throttle } from 'kcopyd';
  new Throttle({ percent: 50 });
  const ends = await Promise.allSettled([KcopydClient.create(), Device.open('/etc/hostname'), KcopydClient.create()]);
  const errors = ends.map(({ reason }) => reason);
  console.log(JSON.stringify({
    support: support(),
    codes: errors.map((error) => error?.code),
    ours: errors.every((error) => error instanceof KcopydError),
    message: errors[0]?.message,
    cause: errors[0]?.cause?.message,
  }));`;

interface Look {
  readonly support: { platform: string; engine: string | null; reason: string; kernel: string };
  readonly codes: (string | undefined)[];
  readonly ours: boolean;
  readonly message: string;
  readonly cause: string | undefined;
}

/** Looks, and holds what is the same in every case. */
async function refused(
  installed: Installed,
  code: string,
  nodeArgs: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
): Promise<Look> {
  const clean = { ...process.env, KCOPYD_NATIVE_LIBRARY_PATH: '', ...env };
  const ended = await installed.run(LOOK, nodeArgs, { env: clean });
  expect(ended).toMatchObject({ code: 0, stderr: '' });
  const look = JSON.parse(ended.stdout) as Look;
  expect(look.codes).toEqual([code, code, code]);
  expect(look.ours).toBe(true);
  expect(look.support).toMatchObject({ engine: null, reason: look.message });
  expect(look.support.kernel).not.toBe('');
  return look;
}

/** An argument of Node's that makes the process believe that it is somewhere else. */
function elsewhere(system: string, arch: string): string {
  const script = `
    Object.defineProperty(process, 'platform', { value: '${system}' });
    Object.defineProperty(process, 'arch', { value: '${arch}' });`;
  return `--import=data:text/javascript,${encodeURIComponent(script)}`;
}

/** One that makes it believe that Node was built for musl. */
const ON_MUSL = `--import=data:text/javascript,${encodeURIComponent(`
  const { header, ...rest } = process.report.getReport();
  delete header.glibcVersionRuntime;
  process.report.getReport = () => ({ header, ...rest });`)}`;

const LIBC = PLATFORM.split('-').at(-1);
const OTHER = PLATFORM.replace(/gnu$|musl$/, (libc) => (libc === 'gnu' ? 'musl' : 'gnu'));

/** The bytes with every occurrence of a text replaced by another of the same length. */
function patched(bytes: Buffer, from: RegExp, to: string): Buffer {
  const text = bytes.toString('latin1');
  const changed = text.replaceAll(from, (found) => to.padEnd(found.length, '\0').slice(0, found.length));
  expect(changed).not.toBe(text);
  return Buffer.from(changed, 'latin1');
}

test('put together whole it works, so that what fails below fails for its own reason', async ({ workshop }) => {
  const installed = await Installed.make(workshop);
  await installed.add(await builtBinding());
  const { stdout } = await installed.run(LOOK);
  const { codes, support } = JSON.parse(stdout) as Look;
  expect(codes).toEqual([null, null, null]);
  expect(support).toMatchObject({ platform: PLATFORM });
  expect(support.engine).not.toBe(null);
});

describe('platforms without a native part', () => {
  test.for([
    ['darwin', 'arm64'],
    ['darwin', 'x64'],
    ['win32', 'x64'],
    ['freebsd', 'x64'],
  ] as const)(
    'P26 %s on %s: the import works, the first use says why it cannot',
    async ([system, arch], { workshop }) => {
      const installed = await Installed.make(workshop);
      await installed.add(await builtBinding());
      const look = await refused(installed, 'ERR_KCOPYD_UNSUPPORTED_PLATFORM', [elsewhere(system, arch)]);
      expect(look.support.platform).toBe(`${system}-${arch}`);
      expect(look.message).toMatch(
        `kcopyd has no native part for ${system}-${arch}: it runs on Linux, on x64 and arm64`,
      );
      expect(look.message).toMatch('virtual machine');
    },
  );

  test.for(['arm', 'ia32', 'ppc64', 'riscv64', 's390x'])('P26 Linux on %s: the same', async (arch, { workshop }) => {
    const installed = await Installed.make(workshop);
    const look = await refused(installed, 'ERR_KCOPYD_UNSUPPORTED_PLATFORM', [elsewhere('linux', arch)]);
    expect(look.support.platform).toBe(`linux-${arch}-${LIBC}`);
    expect(look.message).toMatch(`kcopyd has no native part for linux-${arch}-${LIBC}`);
  });

  test('the command says so too, and exits with 1', async ({ workshop }) => {
    const installed = await Installed.make(workshop);
    const args = [elsewhere('darwin', 'arm64'), installed.command, 'copy', '/etc/hostname', workshop.path('.img')];
    const ended = await run(process.execPath, args);
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(ended.stderr).toMatch('kcopyd has no native part for darwin-arm64');
    expect(ended.stderr).not.toMatch(/\n\s+at /);
    const info = await run(process.execPath, [elsewhere('darwin', 'arm64'), installed.command, 'info']);
    expect(info).toMatchObject({ code: 0, stderr: '' });
    expect(info.stdout).toMatch(/^engine here: none \(kcopyd has no native part for darwin-arm64/);
  });
});

describe('supported platforms without their package', () => {
  test('P26 optional dependencies were left out', async ({ workshop }) => {
    const look = await refused(await Installed.make(workshop), 'ERR_KCOPYD_BINDING_NOT_FOUND');
    expect(look.support.platform).toBe(PLATFORM);
    expect(look.message).toMatch(`@kcopyd/binding-${PLATFORM}@${version}`);
    expect(look.message).toMatch('--omit=optional');
    expect(look.message).toMatch('npm install --include=optional');
  });

  test.for([
    ['arm64', 'gnu', LIBC === 'gnu' ? [] : undefined],
    ['arm64', 'musl', [ON_MUSL]],
    ['x64', 'musl', [ON_MUSL]],
  ] as const)('linux on %s with %s names its own package', async ([arch, libc, args], { workshop, skip }) => {
    if (!args) return skip('musl is told from glibc by what is missing: it cannot be simulated the other way round');
    const installed = await Installed.make(workshop);
    const look = await refused(installed, 'ERR_KCOPYD_BINDING_NOT_FOUND', [elsewhere('linux', arch), ...args]);
    expect(look.support.platform).toBe(`linux-${arch}-${libc}`);
    expect(look.message).toMatch(`@kcopyd/binding-linux-${arch}-${libc}@${version}`);
  });

  test('node_modules comes from another system: what is there is named', async ({ workshop }) => {
    const installed = await Installed.make(workshop);
    await installed.add(await builtBinding(), OTHER);
    const look = await refused(installed, 'ERR_KCOPYD_BINDING_NOT_FOUND');
    expect(look.message).toMatch(`@kcopyd/binding-${OTHER} is there instead`);
  });

  test('the package is there without its file', async ({ workshop }) => {
    const installed = await Installed.make(workshop);
    await installed.add(null);
    const look = await refused(installed, 'ERR_KCOPYD_BINDING_NOT_FOUND');
    expect(look.message).toMatch(`@kcopyd/binding-${PLATFORM}@${version}`);
  });
});

describe('bindings that the dynamic loader refuses', () => {
  const LOAD_FAILED = 'ERR_KCOPYD_BINDING_LOAD_FAILED';

  /** An ELF file's machine is a number of 16 bits at offset 18. */
  function forMachine(bytes: Buffer, machine: number): Buffer {
    const copy = Buffer.from(bytes);
    copy.writeUInt16LE(machine, 18);
    return copy;
  }

  test.for([
    [
      'a glibc that is too old',
      (bytes: Buffer) => patched(bytes, /GLIBC_2\.\d+(?=\0)/g, 'GLIBC_9'),
      /GLIBC_9.*; it needs a newer glibc than this system has .*build from source/,
    ],
    [
      'another C library',
      (bytes: Buffer) => patched(bytes, /(?<=\0)libc\.so\.6(?=\0)/g, 'libc.so.9'),
      /libc\.so\.9: cannot open shared object file.*; it was made for another C library/,
    ],
    [
      'another processor',
      (bytes: Buffer) => forMachine(bytes, 243),
      /it is for another processor \(ELF machine 243.*; the file is/,
    ],
    ['an empty file', () => Buffer.alloc(0), /file too short; the file is damaged/],
    [
      'a file that ends too early',
      (bytes: Buffer) => bytes.subarray(0, 1000),
      /it ends after 1000 of \d+ bytes; the file/,
    ],
    [
      'a page of HTML',
      () => Buffer.from('<!doctype html><title>503</title>'.repeat(99)),
      /invalid ELF header; the file is/,
    ],
  ] as const)('%s', async ([, spoil, words], { workshop, skip }) => {
    if (LIBC !== 'gnu') return skip('the words are those of the dynamic loader of glibc');
    const installed = await Installed.make(workshop);
    await installed.add(spoil(await builtBinding()));
    const look = await refused(installed, LOAD_FAILED);
    expect(look.message).toMatch(words);
    expect(look.message).toMatch(`native part @kcopyd/binding-${PLATFORM} is there but does not load`);
    // What the loader said is not lost.
    expect(look.message).toContain(look.cause?.trim());
  });

  test('a file that ends too early anywhere does not kill the process', async ({ workshop }) => {
    const bytes = await builtBinding();
    const installed = await Installed.make(workshop);
    for (const length of [1, 63, 64, 4096, Math.floor(bytes.length / 2), bytes.length - 4096, bytes.length - 1]) {
      await installed.add(bytes.subarray(0, length));
      expect((await refused(installed, LOAD_FAILED)).message).toMatch('the file is damaged');
    }
  });

  test('a library that is no addon', async ({ workshop, skip }) => {
    const gcc = programs('gcc');
    if (!gcc.available) return skip(gcc.reason);
    const library = workshop.path('.so');
    await writeFile(`${library}.c`, 'int nothing;\n');
    expect(await run('gcc', ['-shared', '-o', library, `${library}.c`])).toMatchObject({ code: 0 });
    const installed = await Installed.make(workshop);
    await installed.add(await readFile(library));
    const look = await refused(installed, LOAD_FAILED);
    expect(look.message).toMatch(/did not self-register.*; the file is damaged/);
  });

  test('a file that this user may not read', async ({ workshop, skip }) => {
    const [root, tools] = [await isRoot(), programs('setpriv')];
    if (!root.available || !tools.available) return skip('only root can become somebody else with setpriv');
    const installed = await Installed.make(workshop);
    await chmod(await installed.add(await builtBinding()), 0);
    await chmod(workshop.directory, 0o755);
    const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups'];
    const node = [process.execPath, '--input-type=module', '--eval', LOOK];
    const looked = await run('setpriv', [...nobody, ...node], { cwd: installed.directory });
    expect(looked).toMatchObject({ code: 0, stderr: '' });
    const look = JSON.parse(looked.stdout) as Look;
    expect(look.codes).toEqual([LOAD_FAILED, LOAD_FAILED, LOAD_FAILED]);
    expect(look.message).toMatch(/permission denied, open .*; this user may not read it/);
  });

  test('a file system that nothing may be run from', async ({ workshop, skip }) => {
    const installed = await Installed.make(workshop);
    const path = await installed.add(await builtBinding());
    const small = await workshop.tmpfs(16 << 20);
    const moved = join(small, 'kcopyd.node');
    await writeFile(moved, await readFile(path));
    const remounted = await run('mount', ['-o', 'remount,noexec', small]);
    if (remounted.code !== 0) return skip(remounted.stderr);
    const look = await refused(installed, LOAD_FAILED, [], { KCOPYD_NATIVE_LIBRARY_PATH: moved });
    expect(look.message).toMatch(/failed to map segment.*; its file system is mounted noexec/);
  });

  test('Node was started without addons', async ({ workshop }) => {
    const installed = await Installed.make(workshop);
    await installed.add(await builtBinding());
    const look = await refused(installed, LOAD_FAILED, ['--no-addons']);
    expect(look.message).toMatch('leave out --no-addons');
  });

  test.for([
    ['neither addons nor their folder', [], 'with --permission add --allow-addons'],
    ['addons, and not their folder', ['--allow-addons'], 'allow it to read the folder (--allow-fs-read)'],
  ] as const)("Node's permission model allows %s", async ([, allowed, words], { workshop }) => {
    const installed = await Installed.make(workshop);
    await installed.add(await builtBinding());
    const model = ['--permission', '--experimental-permission'].find((flag) =>
      process.allowedNodeEnvironmentFlags.has(flag),
    );
    const folders = allowed.length === 0 ? ['*'] : [join(installed.directory, 'node_modules', 'kcopyd', '*')];
    const reading = ['/etc/hostname', ...folders].map((path) => `--allow-fs-read=${path}`);
    const args = ['--no-warnings', model ?? '', ...allowed, ...reading];
    const look = await refused(installed, LOAD_FAILED, args);
    expect(look.message).toMatch(words);
  });
});

describe('bindings of something else', () => {
  const MISMATCH = 'ERR_KCOPYD_BINDING_MISMATCH';

  test('another version of kcopyd', async ({ workshop }) => {
    const installed = await Installed.make(workshop);
    await installed.add(await builtBinding());
    const file = join(installed.directory, 'node_modules', 'kcopyd', 'dist', 'src', 'version.js');
    const text = await readFile(file, 'utf8');
    expect(text).toMatch(`'${version}'`);
    await writeFile(file, text.replace(version, '99.0.0'));
    const look = await refused(installed, MISMATCH);
    expect(look.message).toMatch(`kcopyd 99.0.0 does not work with @kcopyd/binding-${PLATFORM}`);
    expect(look.message).toMatch(`of version ${version}: both must be of one version. Install kcopyd again`);
  });

  test('an addon of another package', async ({ workshop }) => {
    // vitest brings one along.
    const name = ['@rolldown/binding', PLATFORM].join('-');
    const other = createRequire(createRequire(import.meta.url).resolve('vitest/package.json')).resolve(name);
    const installed = await Installed.make(workshop);
    const look = await refused(installed, MISMATCH, [], { KCOPYD_NATIVE_LIBRARY_PATH: other });
    expect(look.message).toMatch(`${other}, which is no native part of kcopyd's`);
    expect(look.message).toMatch('see that KCOPYD_NATIVE_LIBRARY_PATH is not set');
  });
});

describe('KCOPYD_NATIVE_LIBRARY_PATH', () => {
  test('names a binding anywhere, with any ending, from the working directory, also where no package is for', async ({
    workshop,
  }) => {
    const installed = await Installed.make(workshop);
    await writeFile(join(installed.directory, 'built-by-myself'), await builtBinding());
    const env = { ...process.env, KCOPYD_NATIVE_LIBRARY_PATH: './built-by-myself' };
    const { stdout, stderr } = await installed.run(LOOK, [elsewhere('linux', 'riscv64')], { env });
    expect(stderr).toBe('');
    expect((JSON.parse(stdout) as Look).codes).toEqual([null, null, null]);
  });

  test('is not NAPI_RS_NATIVE_LIBRARY_PATH, which all packages made with napi-rs share', async ({ workshop }) => {
    const installed = await Installed.make(workshop);
    await installed.add(await builtBinding());
    const env = { ...process.env, NAPI_RS_NATIVE_LIBRARY_PATH: '/nowhere/other.node' };
    const { stdout } = await installed.run(LOOK, [], { env });
    expect((JSON.parse(stdout) as Look).codes).toEqual([null, null, null]);
  });

  test('names a file that is not there', async ({ workshop }) => {
    const installed = await Installed.make(workshop);
    await installed.add(await builtBinding());
    const env = { KCOPYD_NATIVE_LIBRARY_PATH: '/nowhere/kcopyd.node' };
    const look = await refused(installed, 'ERR_KCOPYD_BINDING_NOT_FOUND', [], env);
    expect(look.message).toMatch('/nowhere/kcopyd.node, which KCOPYD_NATIVE_LIBRARY_PATH names, is not there');
  });

  test('never runs a script', async ({ workshop }) => {
    const installed = await Installed.make(workshop);
    const script = join(installed.directory, 'binding.js');
    await writeFile(script, "console.log('it ran');\n");
    const env = { KCOPYD_NATIVE_LIBRARY_PATH: script };
    await refused(installed, 'ERR_KCOPYD_BINDING_LOAD_FAILED', [], env);
  });
});
