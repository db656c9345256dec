// Completions that the caller makes itself, and waiting for those that are due: prepareCallback and delivered.
import { AsyncLocalStorage } from 'node:async_hooks';
import { setImmediate } from 'node:timers/promises';
import { type Device, IGNORE_ERROR, type KcopydClient, WRITE_SEQ } from 'kcopyd';
import { expect } from 'vitest';
import { completion, expectFile, inOwnProcess, MIB, onEachEngine, test, thrown } from './support/kcopyd.js';
import { randomBytes } from './support/random.js';

/** Until the client's thread has finished so many jobs, without letting the event loop turn. */
function busyUntilOver(copier: KcopydClient, jobs: number): void {
  const deadline = performance.now() + 10_000;
  while (copier.stats.jobs < jobs) expect(performance.now()).toBeLessThan(deadline);
}

onEachEngine((engine) => {
  interface Made {
    readonly copier: KcopydClient;
    /** Submits a job of one sector. */
    readonly submit: (notify: () => void) => void;
    readonly to: Device;
  }
  const testJobs = test.extend<{ made: Made }>({
    made: async ({ workshop, client, device }, use) => {
      const from = await device(await workshop.file({ bytes: MIB, seed: 'source' }));
      const to = await device(await workshop.file({ bytes: MIB }), { access: 'write' });
      const copier = await client({ engine, pages: 1 });
      const submit = (notify: () => void): void => {
        copier.submitCopy({ device: from, count: 1 }, [{ device: to }], 0, notify);
      };
      await use({ copier, submit, to });
    },
  });

  testJobs('P2 a prepared callback is never called from inside, and hands on what it was given', async ({ made }) => {
    const { copier } = made;
    for (const [readErr, writeErr] of [
      [0, 0],
      [5, 0xffff_ffff],
      [125, 1],
    ] as const) {
      const { notify, called } = completion();
      const context = { mine: true };
      const finish = copier.prepareCallback(notify, context);
      await setImmediate();
      let inside = true;
      finish(readErr, writeErr);
      const seen = called.then((result) => [...result, inside]);
      inside = false;
      const [read, write, handed, wasInside] = await seen;
      expect([read, write, wasInside]).toEqual([readErr, writeErr, false]);
      expect(handed).toBe(context);
    }
    const { notify, called } = completion();
    copier.prepareCallback(notify)(0, 0);
    expect(await called).toEqual([0, 0, undefined]);
  });

  testJobs('P1 a prepared callback may be called once', async ({ made: { copier } }) => {
    const calls: number[] = [];
    const finish = copier.prepareCallback((readErr) => calls.push(readErr));
    finish(1, 0);
    for (const late of [() => finish(2, 0), () => finish(1, 0)]) {
      expect(thrown(late)).toMatchObject({ code: 'ERR_KCOPYD_ALREADY_CALLED' });
    }
    await copier.delivered();
    expect(thrown(() => finish(3, 0)).code).toBe('ERR_KCOPYD_ALREADY_CALLED');
    expect(calls).toEqual([1]);
  });

  testJobs('P2 prepared callbacks and completions never overlap, and come first in, first out', async ({ made }) => {
    const { copier, submit } = made;
    const order: string[] = [];
    let inside = 0;
    const called = (what: string, more?: () => void): (() => void) => {
      return () => {
        expect(++inside).toBe(1);
        order.push(what);
        more?.();
        inside--;
      };
    };
    const second = copier.prepareCallback(called('second'));
    const fourth = copier.prepareCallback(called('fourth'));
    const third = copier.prepareCallback(called('third', () => fourth(0, 0)));
    submit(called('first'));
    // It is due by now, and so it comes before what becomes due only now.
    busyUntilOver(copier, 1);
    second(0, 0);
    third(0, 0);
    await copier.delivered();
    expect(order).toEqual(['first', 'second', 'third']);
    await copier.delivered();
    expect(order).toEqual(['first', 'second', 'third', 'fourth']);
  });

  testJobs('delivered: what was due has been delivered, and nothing else is waited for', async ({ made }) => {
    const { copier, submit } = made;
    let count = 0;
    for (let job = 0; job < 3000; job++) submit(() => count++);
    busyUntilOver(copier, 3000);
    const delivered = copier.delivered();
    expect(count).toBe(0);
    await delivered;
    expect(count).toBe(3000);
    // Nothing due at all.
    await copier.delivered();
  });

  testJobs(
    'delivered also comes to an end while callbacks submit the next jobs',
    async ({ made: { copier, submit } }) => {
      let [count, isOver] = [0, false];
      const next = (): void => {
        count++;
        if (!isOver) submit(next);
      };
      for (let job = 0; job < 1500; job++) submit(next);
      busyUntilOver(copier, 1500);
      await copier.delivered();
      isOver = true;
      expect(count).toBeGreaterThanOrEqual(1500);
    },
  );

  test('delivered does not wait for I/O', async ({ workshop, client, device }) => {
    const from = await device(await workshop.file({ bytes: MIB, seed: 'source' }));
    const faulty = await workshop.faulty({ kind: 'slow', file: await workshop.file({ bytes: MIB }), writeMs: 2000 });
    const to = await device(faulty.path, { access: 'write' });
    const copier = await client({ engine });
    const { notify, called } = completion();
    copier.submitCopy({ device: from, count: 8 }, [{ device: to }], 0, notify);
    const first = await Promise.race([copier.delivered().then(() => 'delivered'), called.then(() => 'copied')]);
    expect(first).toBe('delivered');
    await called;
  });

  testJobs('P24 close waits for a prepared callback that was called, and for none that was not', async ({ made }) => {
    const { copier } = made;
    const order: string[] = [];
    copier.prepareCallback(() => expect.unreachable('it was never called'));
    const before = copier.prepareCallback(() => order.push('before'));
    const after = copier.prepareCallback((_readErr, writeErr) => order.push(`after ${writeErr}`));
    before(0, 0);
    await copier.close();
    order.push('closed');
    // There is nobody else to deliver it.
    after(0, 3);
    await copier.delivered();
    expect(order).toEqual(['before', 'closed', 'after 3']);
    expect(thrown(() => copier.prepareCallback(() => {})).code).toBe('ERR_KCOPYD_CLOSED');
  });

  testJobs('a prepared callback may close the client', async ({ made: { copier, submit } }) => {
    const { notify, called } = completion();
    const closing = new Promise<Promise<void>>((resolve) => {
      copier.prepareCallback(() => {
        submit(() => notify(0, 0, 'copied'));
        resolve(copier.close());
      })(0, 0);
    });
    await (await closing.then((promise) => ({ promise }))).promise;
    expect((await called)[2]).toBe('copied');
  });

  testJobs('a callback runs in the asynchronous context of whoever prepared it', async ({ made: { copier } }) => {
    const storage = new AsyncLocalStorage<string>();
    const seen: unknown[] = [];
    const finish = storage.run('preparer', () => copier.prepareCallback(() => seen.push(storage.getStore())));
    storage.run('caller', () => finish(0, 0));
    await copier.delivered();
    expect(seen).toEqual(['preparer']);
  });

  test('P1 a prepared callback that throws is an uncaught exception, and the others are delivered', async ({
    workshop,
  }) => {
    const args = {
      engine,
      source: await workshop.file({ bytes: MIB }),
      destination: await workshop.file({ bytes: MIB }),
    };
    const script = `
      const from = await Device.open(args.source);
      const to = await Device.open(args.destination, { access: 'write' });
      const client = await KcopydClient.create({ engine: args.engine });
      const seen = [];
      process.on('uncaughtException', (error) => seen.push(error.message));
      for (let call = 0; call < 6; call++) {
        client.prepareCallback((...result) => {
          seen.push(result.join());
          if (call % 2) throw new Error('bug ' + call);
        }, call)(call, 0);
      }
      client.submitCopy({ device: from, count: 1 }, [{ device: to }], 0, () => seen.push('copied'));
      await client.close();
      console.log(JSON.stringify(seen.sort()));`;
    const ended = await inOwnProcess(script, args);
    expect(ended.stderr).toBe('');
    const calls = Array.from({ length: 6 }, (_, call) => `${call},0,${call}`);
    expect(JSON.parse(ended.stdout)).toEqual([...calls, 'bug 1', 'bug 3', 'bug 5', 'copied']);
  });

  test('P25 a call of a prepared callback is delivered before the process ends; one never called holds nothing up', async () => {
    const script = `
      const client = await KcopydClient.create({ engine: args.engine });
      client.prepareCallback(() => console.log('never'));
      const finish = client.prepareCallback((...result) => console.log(...result), 'mine');
      client.unref();
      finish(0, 7);`;
    expect(await inOwnProcess(script, { engine })).toEqual({ code: 0, signal: null, stdout: '0 7 mine\n', stderr: '' });
  });

  testJobs('P14 flags are or-ed', async ({ made, workshop, device }) => {
    const source = await device(await workshop.file({ bytes: MIB, seed: 'or-ed' }));
    const { notify, called } = completion();
    const [from, to] = [{ device: source }, [{ device: made.to }]];
    made.copier.submitCopy(from, to, IGNORE_ERROR | WRITE_SEQ, notify, 'or-ed');
    expect(await called).toEqual([0, 0, 'or-ed']);
    await expectFile(made.to.path, randomBytes('or-ed', MIB));
  });
});

test('P30 what is handed to a prepared callback is checked, and what is refused does not count', async ({ client }) => {
  const copier = await client();
  for (const notify of [undefined, null, 5, {}]) {
    expect(thrown(() => copier.prepareCallback(notify as never))).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
  }
  const { notify, called } = completion();
  const finish = copier.prepareCallback(notify, 'still mine') as (...args: unknown[]) => void;
  const refusal = (...args: unknown[]): string => {
    const { code, message } = thrown(() => finish(...args));
    return `${code} ${message}`;
  };
  expect(refusal()).toMatch('ERR_INVALID_ARG_TYPE readErr must be a whole number');
  expect(refusal(0)).toMatch('ERR_INVALID_ARG_TYPE writeErr must be a whole number');
  expect(refusal('0', 0)).toMatch('ERR_INVALID_ARG_TYPE readErr');
  expect(refusal(0n, 0)).toMatch('ERR_INVALID_ARG_TYPE readErr');
  for (const bad of [-1, 0.5, Number.NaN, 2 ** 53]) {
    expect(refusal(bad, 0)).toMatch('ERR_OUT_OF_RANGE readErr must be');
    expect(refusal(0, bad)).toMatch('ERR_OUT_OF_RANGE writeErr must be');
  }
  expect(refusal(0, 2 ** 32)).toMatch('ERR_OUT_OF_RANGE writeErr must be a whole number from 0 to 4294967295');
  finish(0, 2 ** 32 - 1);
  expect(await called).toEqual([0, 2 ** 32 - 1, 'still mine']);
});

test('P4 callbacks that call the next prepared one leave the event loop its time', async ({ client }) => {
  const copier = await client();
  let calls = 0;
  let isOver = false;
  const next = (): void => {
    calls++;
    if (!isOver) copier.prepareCallback(next)(0, 0);
  };
  next();
  // One a turn; were it twice as many in each turn, these would be a million.
  for (let turn = 0; turn < 20; turn++) await setImmediate();
  isOver = true;
  await copier.delivered();
  expect(calls).toBeLessThan(100);
});

test('P4 jobs that are over at once, each followed by another, leave the event loop its time', async ({
  workshop,
  client,
  device,
}) => {
  const JOBS = 100_000;
  const AT_ONCE = 64;
  const from = await device(await workshop.file({ bytes: MIB }));
  const to = await device(await workshop.file({ bytes: MIB }), { access: 'write' });
  const copier = await client();
  let isOver = false;
  let submitted = 0;
  let calls = 0;
  let mostInATurn = 0;
  const next = (): void => {
    calls++;
    if (submitted++ < JOBS) copier.submitCopy({ device: from, count: 0 }, [{ device: to }], 0, next);
    else isOver ||= calls === JOBS + AT_ONCE;
  };
  for (let job = 0; job < AT_ONCE; job++) next();
  while (!isOver) {
    const before = calls;
    await setImmediate();
    mostInATurn = Math.max(mostInATurn, calls - before);
  }
  // Two drains; were every ring answered in the turn in which it comes, these would be tens of thousands.
  expect(mostInATurn).toBeLessThan(2_500);
});

test('P1 many callbacks that are due at once are delivered in order, in a time that does not grow with their square', async ({
  client,
}) => {
  const copier = await client();
  const CALLS = 200_000;
  const seen: number[] = [];
  const finish = Array.from({ length: CALLS }, (_, call) => copier.prepareCallback(() => seen.push(call)));
  const startMs = performance.now();
  for (const call of finish) call(0, 0);
  await copier.delivered();
  expect(performance.now() - startMs).toBeLessThan(10_000);
  expect(seen.length).toBe(CALLS);
  expect(seen.every((call, index) => call === index)).toBe(true);
});
