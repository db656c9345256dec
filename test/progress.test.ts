// Progress: seldom enough not to matter, always a last time, and never in the way of the job.
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Progress } from 'kcopyd';
import { expect } from 'vitest';
import { inOwnProcess, MIB, onEachEngine, rejection, test } from './support/kcopyd.js';

onEachEngine((engine) => {
  test('a last one, before the promise settles: also of a job without a byte', async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const to = [{ device: await workshop.file({ bytes: 0 }) }, { device: await workshop.file({ bytes: 0 }) }];
    const copier = await client({ engine });
    for (const sectors of [2048, 0]) {
      const seen: Progress[] = [];
      await copier.copy({ device: source, count: sectors }, to, { onProgress: (progress) => seen.push(progress) });
      const destination = { sectorsDone: sectors, failed: false };
      const last = { sectorsDone: sectors, sectorsTotal: sectors, etaMs: 0, destinations: [destination, destination] };
      expect(seen.at(-1)).toMatchObject(last);
      expect(Number.isFinite(seen.at(-1)!.bytesPerSecond)).toBe(true);
      const settled = seen.length;
      await new Promise((resolve) => setImmediate(resolve));
      expect(seen).toHaveLength(settled);
    }
  });

  test('at most ten a second, with a rate and what is left of the time', async ({ workshop, client, device }) => {
    const faulty = await workshop.faulty({ kind: 'slow', file: await workshop.file({ bytes: MIB }), writeMs: 100 });
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const slow = await device(faulty.path, { access: 'write' });
    const copier = await client({ engine, pages: 8, subJobSectors: 8 });
    const seen: (Progress & { atMs: number })[] = [];
    const onProgress = (progress: Progress): unknown => seen.push({ ...progress, atMs: performance.now() });
    const copying = copier.copy(
      { device: source, count: 640 },
      { device: slow },
      { onProgress: (progress) => void onProgress(progress) },
    );
    await copying;
    expect(seen.length).toBeGreaterThan(3);
    for (const { atMs } of seen)
      expect(seen.filter((other) => other.atMs >= atMs && other.atMs < atMs + 1000).length).toBeLessThanOrEqual(10);
    const done = seen.map(({ sectorsDone }) => sectorsDone);
    expect(done).toEqual(done.toSorted((a, b) => a - b));
    const there = seen.map(({ destinations }) => destinations[0]!.sectorsDone);
    expect(there).toEqual(there.toSorted((a, b) => a - b));
    for (const { sectorsTotal, etaMs } of seen) {
      expect(sectorsTotal).toBe(640);
      if (etaMs !== null) expect(etaMs).toBeGreaterThanOrEqual(0);
    }
    const middle = seen[seen.length - 2]!;
    expect(middle.bytesPerSecond).toBeGreaterThan(0);
    expect(middle.sectorsDone).toBeGreaterThan(0);
  });

  test('a destination that fails is marked, and the last one comes all the same', async ({ workshop, client }) => {
    const faulty = await workshop.faulty({ kind: 'write-errors', file: await workshop.file({ bytes: MIB }) });
    const bad = await workshop.attach(faulty.path);
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const healthy = await workshop.file({ bytes: 0 });
    const copier = await client({ engine });
    let last: Progress | undefined;
    const onProgress = (progress: Progress): void => {
      last = progress;
    };
    const to = [{ device: bad.path }, { device: healthy }];
    await rejection(copier.copy({ device: source }, to, { ignoreErrors: true, onProgress }));
    expect(last?.destinations).toMatchObject([{ failed: true }, { failed: false, sectorsDone: 2048 }]);
  });

  test('of an aborted job the last one says how far it came', async ({ workshop, client }) => {
    const faulty = await workshop.faulty({ kind: 'slow', file: await workshop.file({ bytes: MIB }), writeMs: 50 });
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const copier = await client({ engine, pages: 1 });
    const controller = new AbortController();
    const seen: Progress[] = [];
    const onProgress = (progress: Progress): void => {
      seen.push(progress);
      controller.abort();
    };
    const copying = copier.copy({ device: source }, { device: faulty.path }, { signal: controller.signal, onProgress });
    const { outcome } = await rejection(copying);
    expect(seen).toHaveLength(2);
    expect(seen[1]!.sectorsDone).toBeGreaterThanOrEqual(outcome!.sectors);
    expect(seen[1]!.sectorsDone).toBeLessThan(2048);
    expect(seen[1]!.etaMs).toBeNull();
  });

  test('onProgress runs in the context of its caller', async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const destination = await workshop.file({ bytes: 0 });
    const copier = await client({ engine });
    const storage = new AsyncLocalStorage<string>();
    const seen: unknown[] = [];
    await storage.run('caller', () => {
      return copier.copy(
        { device: source },
        { device: destination },
        { onProgress: () => void seen.push(storage.getStore()) },
      );
    });
    expect(new Set(seen)).toEqual(new Set(['caller']));
  });

  test('what onProgress throws is an uncaught exception, and the job goes on', async ({ workshop }) => {
    const args = {
      engine,
      source: await workshop.file({ bytes: MIB, seed: 'source' }),
      destination: await workshop.file({ bytes: 0 }),
    };
    const script = `
      const seen = [];
      process.on('uncaughtException', (error) => seen.push(error.message));
      const client = await KcopydClient.create({ engine: args.engine });
      const onProgress = () => { throw new Error('a bug of mine'); };
      const outcome = await client.copy({ device: args.source }, { device: args.destination }, { onProgress });
      await client.close();
      console.log(JSON.stringify([outcome.sectors, [...new Set(seen)]]));`;
    const ended = await inOwnProcess(script, args);
    expect(ended.stderr).toBe('');
    expect(JSON.parse(ended.stdout)).toEqual([2048, ['a bug of mine']]);
  });
});
