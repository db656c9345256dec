// The life of a client: what it may use, what it leaves behind, when it keeps the process alive, and what each method does in
// each state.
import { Device, KcopydClient, support } from 'kcopyd';
import { describe, expect } from 'vitest';
import {
  completion,
  expectFile,
  inOwnProcess,
  MIB,
  onEachEngine,
  rejection,
  SECTOR,
  test,
  thrown,
} from './support/kcopyd.js';
import { programs } from './support/machine.js';
import { randomBytes } from './support/random.js';
import type { Workshop } from './support/workshop.js';

/** For scripts: how many threads of ours there are. One may end while it is looked at. */
const COUNT_THREADS = `
  import { readdirSync, readFileSync } from 'node:fs';
  const isOurs = (id) => {
    try {
      // The flag PF_EXITING: a thread that was joined may be listed for a moment still.
      const [, name, flags] = /\\((.*)\\) . (?:-?\\d+ ){5}(\\d+)/.exec(readFileSync('/proc/self/task/' + id + '/stat', 'utf8'));
      return name.startsWith('kcopyd') && (Number(flags) & 4) === 0;
    } catch {
      return false;
    }
  };
  const threads = () => readdirSync('/proc/self/task').filter(isOurs).length;`;

/** Slow enough to look at while it is written, in bytes a piece: how long each write takes. */
async function slowFile(workshop: Workshop, writeMs: number, bytes: number = MIB): Promise<string> {
  const faulty = await workshop.faulty({ kind: 'slow', file: await workshop.file({ bytes }), writeMs });
  return faulty.path;
}

onEachEngine((engine) => {
  test('stats tell the engine and why, the pool, and what was done', async ({ workshop, client, device }) => {
    const source = await device(await workshop.file({ bytes: MIB, seed: 'source' }));
    const destination = await device(await workshop.file({ bytes: 0 }), { access: 'write' });
    const copier = await client({ engine, pages: 256 });
    const idle = { engine: { kind: engine }, pages: { total: 256, free: 256 } };
    expect(copier.stats).toMatchObject({ ...idle, jobs: 0, subJobs: 0, bytes: 0 });
    expect(copier.stats.engine.reason).not.toBe('');
    expect(copier.stats.engine.registeredBuffers).toBeTypeOf('boolean');
    const before = copier.stats.submissions;
    await copier.copy({ device: source }, { device: destination });
    // Of 1024 sectors each.
    expect(copier.stats).toMatchObject({ ...idle, jobs: 1, subJobs: 2, bytes: MIB });
    expect(copier.stats.submissions).toBeGreaterThan(before);
    expect(structuredClone(copier.stats)).toEqual(copier.stats);
  });

  test('P19 a 4 KiB job takes one page, and the pool is the cap', async ({ workshop, client, device }) => {
    const source = await device(await workshop.file({ bytes: MIB, seed: 'source' }));
    const slow = await device(await slowFile(workshop, 200), { access: 'write' });
    const copier = await client({ engine, pages: 4 });
    const free: number[] = [];
    let progress!: () => void;
    const onProgress = (): void => {
      free.push(copier.stats.pages.free);
      progress();
    };
    for (const jobs of [1, 3, 9]) {
      free.length = 0;
      const seen = new Promise<void>((resolve) => {
        progress = resolve;
      });
      const copies = Array.from({ length: jobs }, (_, job) => {
        const region = { sector: 8 * job, count: 8 };
        return copier.copy({ device: source, ...region }, { device: slow, ...region }, { onProgress });
      });
      await seen;
      // One page each, and where there are more jobs than pages, the others wait.
      expect(free[0], `${jobs} jobs`).toBe(Math.max(0, 4 - jobs));
      await Promise.all(copies);
      expect(copier.stats.pages.free).toBe(4);
    }
  });

  test('P20 any mix of jobs finishes on the smallest pool', async ({ workshop, client, device }) => {
    const source = await device(await workshop.file({ bytes: MIB, seed: 'source' }));
    const to = await Promise.all(
      Array.from({ length: 3 }, async () => device(await workshop.file({ bytes: MIB }), { access: 'write' })),
    );
    const copier = await client({ engine, pages: 1 });
    // Twelve jobs side by side, of a sector up to a third of the file, to one, two and three destinations.
    let sector = 0;
    const copies = [1, 700, 3, 8, 64, 9, 500, 17, 2, 333, 15, 396].map((count, job) => {
      const from = { device: source, sector, count };
      const regions = to.slice(0, 1 + (job % 3)).map((opened) => ({ device: opened, sector: from.sector }));
      sector += count;
      return copier.copy(from, regions);
    });
    expect(sector).toBe(2048);
    const outcomes = await Promise.all(copies);
    expect(outcomes.every(({ destinations }) => destinations.every(({ ok }) => ok))).toBe(true);
    await expectFile(to[0]!.path, randomBytes('source', MIB));
  });

  test('P21 a 1 PiB job costs memory as a 1 MiB job does', async ({ workshop, client, device }) => {
    const directory = await workshop.tmpfs(8 * MIB);
    const huge = await device(await workshop.file({ bytes: 2 ** 50, path: `${directory}/huge` }));
    // Every one of them ends with ENOSPC: the file system is small.
    const to = await device(await workshop.file({ bytes: 0, path: `${directory}/small` }), { access: 'write' });
    const copier = await client({ engine, pages: 16 });
    const before = process.resourceUsage().maxRSS;
    const jobs = Array.from({ length: 100 }, () => {
      const { notify, called } = completion();
      copier.submitCopy({ device: huge }, [{ device: to }], 0, notify);
      return called;
    });
    for (const [readErr, writeErr] of await Promise.all(jobs)) expect([readErr, writeErr]).toEqual([0, 1]);
    // The most that was ever used, in KiB. A list of the pieces of one of these jobs would have 2^31 entries.
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(32 * 1024);
  });

  test('P24 close waits for all jobs; a copy that still opens its paths is one of them', async ({
    workshop,
    device,
  }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const [first, second] = [await workshop.file({ bytes: 0 }), await workshop.file({ bytes: 0 })];
    const from = await device(source);
    const to = await device(first, { access: 'write' });
    const copier = await KcopydClient.create({ engine, pages: 1 });
    const order: string[] = [];
    const copies = [
      copier.copy({ device: from }, { device: to }).then(() => order.push('copied')),
      copier.copy({ device: source }, { device: second }).then(() => order.push('copied')),
    ];
    const closing = copier.close();
    expect(copier.close()).toBe(closing);
    expect((await rejection(copier.copy({ device: from }, { device: to }))).code).toBe('ERR_KCOPYD_CLOSED');
    await closing;
    order.push('closed');
    await Promise.all(copies);
    expect(order).toEqual(['copied', 'copied', 'closed']);
    for (const path of [first, second]) await expectFile(path, randomBytes('source', MIB));
  });

  test('P24 after close no thread, descriptor or page is left', async ({ workshop }) => {
    const args = {
      engine,
      source: await workshop.file({ bytes: MIB, seed: 'source' }),
      destination: await workshop.file({ bytes: 0 }),
    };
    const script = `
      ${COUNT_THREADS}
      const left = () => ({
        threads: threads(),
        descriptors: readdirSync('/proc/self/fd').length,
        locked: Number(/VmLck:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]),
        mapped: Number(/VmSize:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]),
      });
      const once = async () => {
        const client = await KcopydClient.create({ engine: args.engine, pages: 1 << 16 });
        await client.copy({ device: args.source }, { device: args.destination });
        const during = left();
        await client.close();
        return during;
      };
      await once();
      const before = left();
      const during = await once();
      console.log(JSON.stringify({ before, during, after: left() }));`;
    // With one arena for all threads, malloc keeps nothing of the size that is looked for.
    const ended = await inOwnProcess(script, args, { env: { MALLOC_ARENA_MAX: '1' } });
    expect(ended.stderr).toBe('');
    const { before, during, after } = JSON.parse(ended.stdout) as Record<string, Record<string, number>>;
    expect(during!.threads).toBeGreaterThan(0);
    expect(after!.threads).toBe(0);
    expect(after!.descriptors).toBe(before!.descriptors);
    expect(after!.locked).toBe(before!.locked);
    // The pool of 256 MiB is not among what is mapped.
    expect(after!.mapped! - before!.mapped!).toBeLessThan(130 * 1024);
    expect(during!.mapped! - after!.mapped!).toBeGreaterThan(130 * 1024);
  });

  test('P25 an idle client does not keep the process alive', async ({ workshop }) => {
    const args = {
      engine,
      source: await workshop.file({ bytes: MIB, seed: 'source' }),
      destination: await workshop.file({ bytes: 0 }),
    };
    const script = `
      const client = await KcopydClient.create({ engine: args.engine });
      await client.copy({ device: args.source }, { device: args.destination });
      const unused = await KcopydClient.create({ engine: args.engine });
      const device = await Device.open(args.source);
      console.log('idle');`;
    expect(await inOwnProcess(script, args)).toEqual({ code: 0, signal: null, stdout: 'idle\n', stderr: '' });
  });

  test('P25 a running job keeps the process alive, until unref', async ({ workshop }) => {
    const args = {
      engine,
      source: await workshop.file({ bytes: MIB, seed: 'source' }),
      destination: await slowFile(workshop, 50),
    };
    const script = (more: string): string => `
      const client = await KcopydClient.create({ engine: args.engine, pages: 8 });
      const from = await Device.open(args.source);
      const to = await Device.open(args.destination, { access: 'write' });
      client.submitCopy({ device: from, count: 256 }, [{ device: to }], 0, (...result) => console.log(...result.slice(0, 2)));
      ${more}`;
    const kept = { code: 0, signal: null, stdout: '0 0\n', stderr: '' };
    expect(await inOwnProcess(script(''), args)).toEqual(kept);
    expect(await inOwnProcess(script('client.close();'), args)).toEqual(kept);
    expect(await inOwnProcess(script('client.unref().ref();'), args)).toEqual(kept);
    expect(await inOwnProcess(script('client.unref();'), args)).toEqual({ ...kept, stdout: '' });
    expect(await inOwnProcess(script('client.unref(); client.close();'), args)).toEqual({ ...kept, stdout: '' });
    expect(await inOwnProcess(script('client.unref(); process.exitCode = 3;'), args)).toMatchObject({
      code: 3,
      signal: null,
    });
  });

  test('a client that nobody knows any more is closed by the garbage collector', async ({ workshop }) => {
    const args = {
      engine,
      source: await workshop.file({ bytes: MIB, seed: 'source' }),
      destination: await workshop.file({ bytes: 0 }),
    };
    const script = `
      ${COUNT_THREADS}
      import { setTimeout } from 'node:timers/promises';
      await (async () => {
        const client = await KcopydClient.create({ engine: args.engine });
        await client.copy({ device: args.source }, { device: args.destination });
      })();
      const before = threads();
      for (let round = 0; round < 200 && threads() > 0; round++) {
        globalThis.gc();
        await setTimeout(10);
      }
      console.log(JSON.stringify({ before: before > 0, after: threads() }));`;
    const wrap = ['env', 'NODE_OPTIONS=--expose-gc'];
    const ended = await inOwnProcess(script, args, { wrap });
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(ended.stdout)).toEqual({ before: true, after: 0 });
  });

  describe('each method in each state', () => {
    const states = ['idle', 'copying', 'aborting', 'closing', 'closed'] as const;

    test.for(states)('%s', async (state, { workshop, client, device }) => {
      const source = await device(await workshop.file({ bytes: MIB, seed: 'source' }));
      const slow = await device(await slowFile(workshop, 50), { access: 'write' });
      const other = await device(await workshop.file({ bytes: MIB }), { access: 'write' });
      const copier = await client({ engine, pages: 64, subJobSectors: 16 });
      const controller = new AbortController();
      let [inFlight, closing]: [Promise<unknown>, Promise<void> | undefined] = [Promise.resolve(), undefined];
      if (state !== 'idle' && state !== 'closed') {
        inFlight = copier
          .copy({ device: source, count: 512 }, { device: slow }, { signal: controller.signal })
          .catch((error: unknown) => error);
      }
      if (state === 'aborting') controller.abort();
      if (state === 'closing' || state === 'closed') closing = copier.close();
      if (state === 'closed') await closing;

      const [copied, zeroed, prepared] = [completion(), completion(), completion()];
      const from = { device: source, count: 8 };
      const at = (sector: number) => ({ device: other, sector, count: 8 });
      const promised = [copier.copy(from, at(0)), copier.zero(at(8))];
      const immediate = [
        () => copier.submitCopy(from, [at(16)], 0, copied.notify, 'mine'),
        () => copier.submitZero([at(24)], 0, zeroed.notify, 'mine'),
        () => copier.prepareCallback(prepared.notify, 'mine')(0, 0),
      ];
      if (closing) {
        for (const promise of promised) expect((await rejection(promise)).code).toBe('ERR_KCOPYD_CLOSED');
        for (const call of immediate) expect(thrown(call).code).toBe('ERR_KCOPYD_CLOSED');
      } else {
        for (const call of immediate) call();
        for (const { sectors } of await Promise.all(promised)) expect(sectors).toBe(8);
        for (const { called } of [copied, zeroed, prepared]) expect(await called).toEqual([0, 0, 'mine']);
      }
      expect(await copier.delivered()).toBeUndefined();
      expect(copier.stats).toMatchObject({ engine: { kind: engine }, pages: { total: 64 } });
      expect(copier.unref()).toBe(copier);
      expect(copier.ref()).toBe(copier);
      const close = copier.close();
      if (closing) expect(close).toBe(closing);
      expect(copier[Symbol.asyncDispose]()).toBe(close);
      await close;
      const ended = await inFlight;
      if (state === 'aborting') expect(ended).toMatchObject({ name: 'AbortError' });
      else if (state === 'copying' || state === 'closing') expect(ended).toMatchObject({ sectors: 512 });
      expect(copier.stats).toMatchObject({ pages: { total: 64, free: 64 } });
      for (const promise of [copier.copy(from, at(0)), copier.zero(at(0))])
        expect((await rejection(promise)).code).toBe('ERR_KCOPYD_CLOSED');
      expect(await copier.delivered()).toBeUndefined();
    });

    test.for(['open', 'in a job', 'closing', 'closed'] as const)(
      'of a Device: %s',
      async (state, { workshop, client, device }) => {
        const source = await device(await workshop.file({ bytes: MIB, seed: 'source' }));
        const destination = await Device.open(await slowFile(workshop, 50), { access: 'write' });
        const copier = await client({ engine });
        const from = { device: source, count: 8 };
        const inJob =
          state === 'in a job' || state === 'closing' ? copier.copy(from, { device: destination }) : undefined;
        const closing = state === 'closing' || state === 'closed' ? destination.close() : undefined;
        if (state === 'closed') await closing;
        expect(destination).toMatchObject({ kind: 'file', bytes: MIB, sectors: 2048 });
        const copying = copier.copy(from, { device: destination, sector: 8 });
        const submit = (): void => copier.submitCopy(from, [{ device: destination, sector: 16 }], 0, () => {});
        if (closing) {
          expect((await rejection(copying)).code).toBe('ERR_KCOPYD_DEVICE_CLOSED');
          expect(thrown(submit).code).toBe('ERR_KCOPYD_DEVICE_CLOSED');
        } else {
          submit();
          expect((await copying).sectors).toBe(8);
        }
        const close = destination.close();
        if (closing) expect(close).toBe(closing);
        expect(destination[Symbol.asyncDispose]()).toBe(close);
        await close;
        if (inJob) expect((await inJob).sectors).toBe(8);
        expect(destination).toMatchObject({ kind: 'file', bytes: MIB, sectors: 2048 });
        expect((await rejection(copier.copy(from, { device: destination }))).code).toBe('ERR_KCOPYD_DEVICE_CLOSED');
      },
    );
  });

  test('many jobs at once all arrive, more than one delivery takes', async ({ workshop, client, device }) => {
    const source = await device(await workshop.file({ bytes: MIB, seed: 'source' }));
    const destination = await device(await workshop.file({ bytes: MIB }), { access: 'write' });
    const copier = await client({ engine });
    let delivered = 0;
    await new Promise<void>((resolve) => {
      for (let job = 0; job < 5000; job++) {
        const region = { sector: job % 2048, count: 1 };
        copier.submitCopy(
          { device: source, ...region },
          [{ device: destination, ...region }],
          0,
          (readErr, writeErr) => {
            expect(readErr + writeErr).toBe(0);
            if (++delivered === 5000) resolve();
          },
        );
      }
      // All are done before the first is delivered.
      const until = performance.now() + 500;
      while (performance.now() < until);
    });
    await expectFile(destination.path, randomBytes('source', MIB));
    expect(SECTOR).toBe(512);
  });
});

test('await using closes a client', async () => {
  let copier: KcopydClient;
  {
    await using using = await KcopydClient.create({ pages: 1 });
    copier = using;
  }
  expect((await rejection(copier.copy({ device: '/nowhere' }, { device: '/nowhere' }))).code).toBe('ERR_KCOPYD_CLOSED');
});

test('P26 auto runs on the best engine that works, and says which and why', async ({ client }) => {
  const { platform, engine, reason, kernel } = support();
  expect(platform).toMatch(/^linux-(x64|arm64)-(gnu|musl)$/);
  expect(kernel).toMatch(/^\d+\.\d+/);
  expect(reason).not.toBe('');
  const copier = await client({});
  expect(copier.stats.engine.kind).toBe(process.env.KCOPYD_ENGINE || engine);
});

test('P26 where io_uring is refused the same API runs on threads, and says why', async ({ workshop, skip }) => {
  const strace = programs('strace');
  if (!strace.available) skip(strace.reason);
  const args = {
    source: await workshop.file({ bytes: MIB, seed: 'source' }),
    destination: await workshop.file({ bytes: 0 }),
  };
  const script = `
    const client = await KcopydClient.create();
    const outcome = await client.copy({ device: args.source }, { device: args.destination });
    const named = await KcopydClient.create({ engine: 'io_uring' }).catch((error) => error);
    console.log(JSON.stringify([client.stats.engine, outcome.bytes, support().engine, named.code, named.message]));
    await client.close();`;
  for (const [errno, words] of [
    ['EPERM', /EPERM|not permitted|seccomp|refused/i],
    ['ENOSYS', /ENOSYS|not implemented|kernel/i],
  ] as const) {
    const log = workshop.path('.strace');
    const inject = [
      'strace',
      '-f',
      '-qq',
      '-o',
      log,
      '-e',
      'trace=io_uring_setup',
      '-e',
      `inject=io_uring_setup:error=${errno}`,
    ];
    const ended = await inOwnProcess(script, args, { wrap: inject, env: { KCOPYD_ENGINE: '' } });
    expect(ended.stderr).toBe('');
    const [engine, bytes, supported, code, message] = JSON.parse(ended.stdout) as [
      { kind: string; reason: string },
      number,
      string,
      string,
      string,
    ];
    expect([engine.kind, bytes, supported, code]).toEqual(['threads', MIB, 'threads', 'ERR_KCOPYD_ENGINE_UNAVAILABLE']);
    expect(engine.reason).toMatch(words);
    expect(message).toMatch(words);
    await expectFile(args.destination, randomBytes('source', MIB));
  }
});

test('P26 where nothing can run the import succeeds and create() rejects', async () => {
  // The import is already done; the native part is loaded on first use.
  const script = `
    Object.defineProperty(process, 'platform', { value: 'darwin' });
    const failures = await Promise.allSettled([KcopydClient.create(), Device.open('/etc/passwd')]);
    const { platform, engine, reason } = support();
    console.log(JSON.stringify([...failures.map(({ reason: { code } }) => code), platform, engine, reason]));`;
  const ended = await inOwnProcess(script, {}, { env: { KCOPYD_NATIVE_LIBRARY_PATH: '' } });
  expect(ended.stderr).toBe('');
  const [create, open, platform, engine, reason] = JSON.parse(ended.stdout) as unknown[];
  expect([create, open]).toEqual(['ERR_KCOPYD_UNSUPPORTED_PLATFORM', 'ERR_KCOPYD_UNSUPPORTED_PLATFORM']);
  expect([platform, engine]).toEqual([`darwin-${process.arch}`, null]);
  expect(reason).toMatch('Linux');
});

test('require() works as import does', async () => {
  const script = `
    import { createRequire } from 'node:module';
    const required = createRequire(process.cwd() + '/x.cjs')('kcopyd');
    console.log(required.KcopydClient === KcopydClient, required.KcopydError === KcopydError);`;
  const ended = await inOwnProcess(script);
  expect(ended.stdout).toBe('true true\n');
});
