// The ladder: every rung is forced, and the same copy succeeds on it, and both stats and support() say which it is and why.
// Nothing of the machine is changed: what is refused is refused to one process.
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { ClientStats, Support } from 'kcopyd';
import { describe, expect } from 'vitest';
import { run } from './support/command.js';
import { expectFile, inOwnProcess, MIB, test } from './support/kcopyd.js';
import { hasMount, programs } from './support/machine.js';
import { randomBytes } from './support/random.js';
import type { Workshop } from './support/workshop.js';

const REFUSE = fileURLToPath(new URL('support/refuse.py', import.meta.url));
const [SETUP, ENTER, REGISTER] = [425, 426, 427];

interface Told {
  readonly engine: ClientStats['engine'];
  readonly support: Support;
  /** What becomes of a client that insists on io_uring. */
  readonly named: string;
}

/** Copies in a process of its own that is started by `wrap`, and what that process is told. */
async function copied(workshop: Workshop, wrap: readonly string[]): Promise<Told> {
  const args = {
    source: await workshop.file({ bytes: MIB, seed: 'source' }),
    destination: await workshop.file({ bytes: 0 }),
  };
  const script = `
    const client = await KcopydClient.create({ pages: 512 });
    await client.copy({ device: args.source }, { device: args.destination }, { flush: true });
    const { engine } = client.stats;
    await client.close();
    const named = await KcopydClient.create({ engine: 'io_uring' }).then(
      (client) => (client.close(), client.stats.engine.kind),
      ({ code, message }) => code + ' ' + message,
    );
    console.log(JSON.stringify({ engine, support: support(), named }));`;
  const ended = await inOwnProcess(script, args, { wrap, env: { KCOPYD_ENGINE: '' } });
  expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' });
  await expectFile(args.destination, randomBytes('source', MIB));
  return JSON.parse(ended.stdout) as Told;
}

/** It ran on threads because of what the words say, everywhere where that is told. */
function expectThreads({ engine, support, named }: Told, words: RegExp): void {
  expect(engine).toMatchObject({ kind: 'threads', registeredBuffers: false });
  expect(support.engine).toBe('threads');
  for (const reason of [engine.reason, support.reason, named]) expect(reason).toMatch(words);
  expect(named).toMatch(/^ERR_KCOPYD_ENGINE_UNAVAILABLE /);
}

describe('P26 seccomp refuses io_uring', () => {
  test.for([
    ['EPERM', SETUP, /seccomp filter.*not permitted/],
    ['ENOSYS', SETUP, /older than 5\.1.*seccomp filter hides it/],
    ['EPERM', REGISTER, /seccomp filter/],
    ['ENOSYS', REGISTER, /seccomp filter/],
    ['EPERM', ENTER, /seccomp filter/],
  ] as const)('P26 seccomp answers %s to system call %i: threads', async ([errno, call, words], { workshop, skip }) => {
    const python = programs('python3');
    if (!python.available) skip(python.reason);
    const wrap = ['python3', REFUSE, errno, String(call)];
    const idle = await run('python3', [...wrap.slice(1), process.execPath, '--eval', 'setTimeout(() => {}, 1)']);
    if (idle.signal === 'SIGABRT') skip(`Node ${process.version} itself aborts there: ${idle.stderr.trim()}`);
    expectThreads(await copied(workshop, wrap), words);
  });
});

test('P26 kernel.io_uring_disabled is named as the reason', async ({ workshop, skip }) => {
  for (const facility of [programs('python3', 'unshare'), await hasMount()]) {
    if (!facility.available) skip(facility.reason);
  }
  const setting = workshop.path();
  for (const value of [2, 1]) {
    await writeFile(setting, `${value}\n`);
    // In a mount namespace of its own; the kernel's answer comes from seccomp.
    const bind = `mount --bind ${setting} /proc/sys/kernel/io_uring_disabled && exec "$@"`;
    const wrap = ['unshare', '--mount', 'sh', '-c', bind, 'sh', 'python3', REFUSE, 'EPERM', String(SETUP)];
    expectThreads(await copied(workshop, wrap), new RegExp(`io_uring_disabled is ${value}`));
  }
});

test('P26 without memory that may be locked: io_uring, with buffers that are not registered', async ({
  workshop,
  skip,
}) => {
  const tools = programs('prlimit', 'setpriv');
  if (!tools.available) skip(tools.reason);
  // What is locked is counted for each user: so it is one that nobody is, who may still open the test's files.
  const only = ['--bounding-set', '--inh-caps', '--ambient-caps'].map((caps) => `${caps}=-all,+dac_override`);
  const wrap = ['prlimit', '--memlock=262144', 'setpriv', '--reuid=64321', '--clear-groups', ...only];
  const { engine, support, named } = await copied(workshop, wrap);
  if (support.engine === 'threads') skip(`no io_uring here: ${support.reason}`);
  expect([engine.kind, named, engine.registeredBuffers]).toEqual(['io_uring', 'io_uring', false]);
  expect(engine.reason).toMatch(/buffers not registered.*RLIMIT_MEMLOCK/);
});

describe('P26 a kernel that does not know the newest setup flags', () => {
  test.for([
    [1, '6.1'],
    [3, '5.19'],
    [5, '5.10'],
  ] as const)('P26 EINVAL %i times: the flags of Linux %s', async ([times, release], { workshop, skip }) => {
    const strace = programs('strace');
    if (!strace.available) skip(strace.reason);
    // Counted for each thread. A client's makes its ring and no other; where support() makes one, the event loop of newer
    // Nodes has made its own before, so how far down that gets is Node's business.
    const inject = `inject=io_uring_setup:error=EINVAL:when=1..${times}`;
    const wrap = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=io_uring_setup', '-e', inject];
    const { engine, support, named } = await copied(workshop, wrap);
    if (support.engine === 'threads' && /seccomp/.test(support.reason)) skip(`no io_uring here: ${support.reason}`);
    expect([engine.kind, support.engine, named]).toEqual(['io_uring', 'io_uring', 'io_uring']);
    expect(engine.reason).toContain(`with the setup flags of Linux ${release}`);
    expect(support.reason).toContain('with the setup flags of Linux');
  });

  test('P26 EINVAL to every one of them: threads', async ({ workshop, skip }) => {
    const strace = programs('strace');
    if (!strace.available) skip(strace.reason);
    const inject = 'inject=io_uring_setup:error=EINVAL';
    const wrap = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=io_uring_setup', '-e', inject];
    expectThreads(await copied(workshop, wrap), /Invalid argument/);
  });
});

test('P26 with everything granted the buffers are registered, and the fixed operations are used', async ({
  client,
}) => {
  const copier = await client({});
  const { kind, reason, registeredBuffers } = copier.stats.engine;
  expect(reason).not.toBe('');
  if (kind === 'io_uring') expect(registeredBuffers, reason).toBe(true);
  else expect(registeredBuffers).toBe(false);
});
