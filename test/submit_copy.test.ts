// The kernel's own shape: completions by callback, each exactly once, never early, never two at a time.
import { AsyncLocalStorage } from 'node:async_hooks';
import { Device, IGNORE_ERROR, type KcopydClient, type KcopydError } from 'kcopyd';
import { describe, expect } from 'vitest';
import { completion, expectFile, inOwnProcess, MIB, onEachEngine, SECTOR, test, thrown } from './support/kcopyd.js';
import { randomBytes } from './support/random.js';
import type { Workshop } from './support/workshop.js';

async function pair(workshop: Workshop): Promise<{ source: string; destination: string }> {
  return {
    source: await workshop.file({ bytes: MIB, seed: 'source' }),
    destination: await workshop.file({ bytes: MIB }),
  };
}

onEachEngine((engine) => {
  test('P1 exactly one completion per job, for zero length too', async ({ workshop, client, device }) => {
    const { source, destination } = await pair(workshop);
    const [from, to] = [await device(source), await device(destination, { access: 'write' })];
    const copier = await client({ engine, pages: 4 });
    const calls = new Map<number, number>();
    const jobs = 300;
    await new Promise<void>((resolve) => {
      let left = jobs;
      for (let job = 0; job < jobs; job++) {
        const region = { sector: job * 6, count: job % 3 === 0 ? 0 : 5 };
        const notify = (readErr: number, writeErr: number, context: number): void => {
          expect([readErr, writeErr]).toEqual([0, 0]);
          calls.set(context, (calls.get(context) ?? 0) + 1);
          if (--left === 0) resolve();
        };
        copier.submitCopy({ device: from, ...region }, [{ device: to, ...region }], 0, notify, job);
      }
    });
    // Whatever came twice has come by the time that everything is released.
    await copier.close();
    expect([...calls.keys()].sort((a, b) => a - b)).toEqual(Array.from({ length: jobs }, (_, job) => job));
    expect([...calls.values()].every((count) => count === 1)).toBe(true);
  });

  test('P1 exactly one completion on error, with the errno and the mask', async ({ workshop, client, device }) => {
    const { source, destination } = await pair(workshop);
    const faulty = await workshop.faulty({ kind: 'write-errors', file: await workshop.file({ bytes: MIB }) });
    const from = await device(source);
    const to = [await device(destination, { access: 'write' }), await device(faulty.path, { access: 'write' })];
    const copier = await client({ engine, subJobSectors: 8 });
    const results: unknown[] = [];
    const { notify, called } = completion();
    const regions = to.map((opened) => ({ device: opened }));
    copier.submitCopy({ device: from }, regions, 0, (...result) => results.push(result), 'stops');
    copier.submitCopy({ device: from }, regions, IGNORE_ERROR, (...result) => results.push(result), 'goes on');
    copier.submitCopy({ device: from, count: 0 }, regions, 0, notify);
    await called;
    await copier.close();
    expect(results).toHaveLength(2);
    expect(results).toContainEqual([0, 0b10, 'stops']);
    expect(results).toContainEqual([0, 0b10, 'goes on']);
  });

  test('P1 exactly one completion on a dying device', async ({ workshop, client, device }) => {
    const { source } = await pair(workshop);
    const faulty = await workshop.faulty({ kind: 'slow', file: await workshop.file({ bytes: MIB }), writeMs: 200 });
    const [from, to] = [await device(source), await Device.open(faulty.path, { access: 'write' })];
    const copier = await client({ engine, subJobSectors: 8 });
    const results: number[][] = [];
    const { notify, called } = completion();
    copier.submitCopy({ device: from }, [{ device: to }], 0, (...result) => {
      results.push(result.slice(0, 2) as number[]);
      notify(...(result as [number, number, unknown]));
    });
    await faulty.vanish();
    await called;
    await copier.close();
    expect(results).toEqual([[0, 1]]);
    // That it is gone, closing may tell too.
    const told = await to.close().then(
      () => 'closed',
      ({ code }: KcopydError) => code,
    );
    expect(['closed', 'ENOTCONN', 'ECONNABORTED']).toContain(told);
  });

  test('P2 no completion from inside the submitting call', async ({ workshop, client, device }) => {
    const { source, destination } = await pair(workshop);
    const [from, to] = [await device(source), await device(destination, { access: 'write' })];
    const copier = await client({ engine });
    for (const count of [0, 1]) {
      let submitting = true;
      const { notify, called } = completion();
      copier.submitCopy({ device: from, count }, [{ device: to }], 0, (readErr, writeErr) =>
        notify(readErr, writeErr, submitting),
      );
      // Long enough for the job to be done; its completion must wait for us all the same.
      const until = performance.now() + 20;
      while (performance.now() < until);
      submitting = false;
      expect(await called).toEqual([0, 0, false]);
    }
  });

  test('P2 callbacks of one client never overlap, also when they submit the next job', async ({
    workshop,
    client,
    device,
  }) => {
    const { source, destination } = await pair(workshop);
    const [from, to] = [await device(source), await device(destination, { access: 'write' })];
    const copier = await client({ engine });
    let [inside, left] = [0, 400];
    await new Promise<void>((resolve) => {
      const notify = (): void => {
        expect(++inside).toBe(1);
        if (--left > 0) submit();
        else resolve();
        inside--;
      };
      const submit = (): void => copier.submitCopy({ device: from, count: 1 }, [{ device: to }], 0, notify);
      submit();
    });
  });

  test('P2 a callback may close the client; what was submitted completes', async ({ workshop, client, device }) => {
    const { source, destination } = await pair(workshop);
    const [from, to] = [await device(source), await device(destination, { access: 'write' })];
    const copier = await client({ engine, pages: 1 });
    const later = completion();
    const closed = await new Promise<Promise<void>>((resolve) => {
      copier.submitCopy({ device: from, count: 8 }, [{ device: to }], 0, () => {
        const closing = copier.close();
        const refusal = thrown(() => copier.submitCopy({ device: from, count: 1 }, [{ device: to }], 0, () => {}));
        expect(refusal.code).toBe('ERR_KCOPYD_CLOSED');
        resolve(closing);
      });
      copier.submitCopy({ device: from, sector: 8 }, [{ device: to, sector: 8 }], 0, later.notify);
    });
    await closed;
    expect((await later.called).slice(0, 2)).toEqual([0, 0]);
    await expectFile(destination, randomBytes('source', MIB));
  });

  test('P3 a chain of jobs submitted from callbacks runs on a one-page pool', async ({ workshop, client, device }) => {
    const { source, destination } = await pair(workshop);
    const [from, to] = [await device(source), await device(destination, { access: 'write' })];
    const copier = await client({ engine, pages: 1 });
    await new Promise<void>((resolve) => {
      const submit = (sector: number): void => {
        const region = { sector, count: 8 };
        copier.submitCopy({ device: from, ...region }, [{ device: to, ...region }], 0, () => {
          // Its page is back before its callback runs.
          expect(copier.stats.pages).toEqual({ total: 1, free: 1 });
          if (sector + 8 < MIB / SECTOR) submit(sector + 8);
          else resolve();
        });
      };
      submit(0);
    });
    await expectFile(destination, randomBytes('source', MIB));
  });

  test('P4 a small job behind a huge one completes long before it', async ({ workshop, client, device }) => {
    const huge = await workshop.file({ bytes: 256 * MIB });
    const { source, destination } = await pair(workshop);
    const [from, to] = [await device(source), await device(destination, { access: 'write' })];
    const [hugeFrom, hugeTo] = [
      await device(huge),
      await device(await workshop.file({ bytes: 0 }), { access: 'write' }),
    ];
    const copier = await client({ engine, subJobSectors: 64, pages: 64 });
    const order: string[] = [];
    await Promise.all([
      new Promise<void>((resolve) => {
        copier.submitCopy({ device: hugeFrom }, [{ device: hugeTo }], 0, () => resolve(void order.push('huge')));
      }),
      new Promise<void>((resolve) => {
        copier.submitCopy({ device: from, count: 8 }, [{ device: to }], 0, () => resolve(void order.push('small')));
      }),
    ]);
    expect(order).toEqual(['small', 'huge']);
  });

  test('the context is handed back untouched, and the callback runs in the context of its submitter', async ({
    workshop,
    client,
    device,
  }) => {
    const { source, destination } = await pair(workshop);
    const [from, to] = [await device(source), await device(destination, { access: 'write' })];
    const copier = await client({ engine });
    const storage = new AsyncLocalStorage<string>();
    const context = Object.freeze({ mine: true });
    const seen = await storage.run('submitter', () => {
      return new Promise((resolve) => {
        copier.submitCopy(
          { device: from, count: 1 },
          [{ device: to }],
          0,
          (_r, _w, handed) => resolve([handed, storage.getStore()]),
          context,
        );
      });
    });
    expect(seen).toEqual([context, 'submitter']);
    expect((seen as unknown[])[0]).toBe(context);
  });

  test('P1 a callback that throws is an uncaught exception, and the other completions are delivered', async ({
    workshop,
  }) => {
    const { source, destination } = await pair(workshop);
    const script = `
      const from = await Device.open(args.source);
      const to = await Device.open(args.destination, { access: 'write' });
      const client = await KcopydClient.create({ engine: args.engine });
      const seen = [];
      process.on('uncaughtException', (error) => seen.push(error.message));
      for (let job = 0; job < 6; job++) {
        client.submitCopy({ device: from, count: 1 }, [{ device: to, sector: job }], 0, () => {
          seen.push(job);
          if (job % 2) throw new Error('bug ' + job);
        });
      }
      await client.close();
      console.log(JSON.stringify(seen.map(String).sort()));`;
    const ended = await inOwnProcess(script, { engine, source, destination });
    expect(ended.stderr).toBe('');
    expect(JSON.parse(ended.stdout)).toEqual(['0', '1', '2', '3', '4', '5', 'bug 1', 'bug 3', 'bug 5']);
  });

  test('a callback that throws ends a process that does not handle it', async ({ workshop }) => {
    const { source, destination } = await pair(workshop);
    const script = `
      const from = await Device.open(args.source);
      const to = await Device.open(args.destination, { access: 'write' });
      const client = await KcopydClient.create({ engine: args.engine });
      client.submitCopy({ device: from, count: 1 }, [{ device: to }], 0, () => { throw new Error('a bug of mine'); });`;
    const ended = await inOwnProcess(script, { engine, source, destination });
    expect(ended).toMatchObject({ code: 1, signal: null });
    expect(ended.stderr).toContain('a bug of mine');
  });
});

describe('refusals are thrown at once', () => {
  /** Arguments as they should be, to spoil one at a time. */
  async function good(
    workshop: Workshop,
    device: (path: string, options?: object) => Promise<Device>,
  ): Promise<{ from: Device; to: Device; path: string }> {
    const { source, destination } = await pair(workshop);
    return { from: await device(source), to: await device(destination, { access: 'write' }), path: source };
  }

  function refusal(copier: KcopydClient, ...call: unknown[]): string {
    const submit = copier.submitCopy.bind(copier) as (...args: unknown[]) => void;
    const { code, message } = thrown(() => submit(...call));
    return `${code} ${message}`;
  }

  test('and name what is wrong', async ({ workshop, client, device }) => {
    const { from, to, path } = await good(workshop, device);
    const copier = await client();
    const never = (): void => expect.unreachable('notified');
    const source = { device: from, count: 1 };
    const type = 'ERR_INVALID_ARG_TYPE';
    const range = 'ERR_OUT_OF_RANGE';
    expect(refusal(copier, { device: path }, [{ device: to }], 0, never)).toMatch(
      `${type} from.device must be a Device`,
    );
    expect(refusal(copier, source, [{ device: 3 }], 0, never)).toMatch(`${type} to[0].device must be a Device`);
    expect(refusal(copier, source, { device: to }, 0, never)).toMatch(`${type} to must be an array`);
    expect(refusal(copier, source, [], 0, never)).toMatch(`${range} to must be an array of 1 to 32`);
    expect(refusal(copier, source, [{ device: to }], undefined, never)).toMatch(`${type} flags must be`);
    for (const flags of [1, -1, 8, 2.5, Number.NaN, 2 ** 32, 2 ** 32 + 2, 256, 512]) {
      expect(refusal(copier, source, [{ device: to }], flags, never)).toMatch(`${range} flags must be`);
    }
    expect(refusal(copier, source, [{ device: to }], 0, undefined)).toMatch(`${type} notify must be a function`);
    expect(refusal(copier, source, [{ device: to, sector: -1 }], 0, never)).toMatch(`${range} to[0].sector must be`);
    expect(refusal(copier, { device: to, count: 1 }, [{ device: to, sector: 8 }], 0, never)).toMatch(
      'ERR_KCOPYD_ACCESS',
    );
    expect(refusal(copier, source, [{ device: from, sector: 8 }], 0, never)).toMatch('ERR_KCOPYD_ACCESS');
    await from.close();
    expect(refusal(copier, source, [{ device: to }], 0, never)).toMatch(
      'ERR_KCOPYD_DEVICE_CLOSED from.device is closed',
    );
    await copier.close();
    expect(copier.stats.jobs).toBe(0);
  });

  test('and leave a device free to close', async ({ workshop, client, device }) => {
    const { from, to } = await good(workshop, device);
    const copier = await client();
    const never = (): void => expect.unreachable('notified');
    expect(refusal(copier, { device: from, sector: 9999 }, [{ device: to }], 0, never)).toMatch('ERR_KCOPYD_BOUNDS');
    await Promise.all([from.close(), to.close()]);
  });
});
