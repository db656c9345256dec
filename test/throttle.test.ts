// Throttles as callers feel them: how long what takes. The arithmetic itself is tested without a clock, in
// crates/kcopyd/src/copy/throttle.rs. Every test waits for seconds, so they wait side by side.
import { readFileSync } from 'node:fs';
import { Throttle } from 'kcopyd';
import { describe, expect } from 'vitest';
import { completion, MIB, onEachEngine, rejection, SECTOR, test } from './support/kcopyd.js';
import type { Workshop } from './support/workshop.js';

// A machine that is busy makes everything later, never earlier: so the bound is tight on one side only. It fails all the
// same if a limit did not hold, or counted twice what counts once.
function expectTook(milliseconds: number, expected: number): void {
  expect(milliseconds).toBeGreaterThan(expected * 0.95);
  expect(milliseconds).toBeLessThan(expected * 1.25);
}

async function timed(work: Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work;
  return performance.now() - begin;
}

/** How long a block device has had requests under way, since it was attached: the kernel's own account. */
function busyMs(device: string): number {
  return Number(
    readFileSync(`/sys/class/block/${device.replace('/dev/', '')}/stat`, 'utf8')
      .trim()
      .split(/\s+/)[9],
  );
}

/** A source of so many bytes and so many destinations; sparse, on any file system. */
async function files(workshop: Workshop, bytes: number, destinations = 1): Promise<{ source: string; to: string[] }> {
  const to = await Promise.all(Array.from({ length: destinations }, () => workshop.file({ bytes: 0 })));
  return { source: await workshop.file({ bytes, seed: 'source' }), to };
}

onEachEngine((engine) => {
  describe.concurrent('a throttle', () => {
    test('P22 bytesPerSecond: each source byte counts once, however many destinations', async ({
      workshop,
      client,
    }) => {
      const { source, to } = await files(workshop, 12 * MIB, 2);
      const copier = await client({ engine, throttle: new Throttle({ bytesPerSecond: 4 * MIB }) });
      const destinations = to.map((device) => ({ device }));
      expectTook((await copier.copy({ device: source }, destinations)).durationMs, 3000);
    });

    test('P22 bytesPerSecond: in zero() each region byte counts once', async ({ workshop, client }) => {
      const { to } = await files(workshop, 0, 2);
      const copier = await client({ engine, throttle: new Throttle({ bytesPerSecond: 4 * MIB }) });
      const destinations = to.map((device) => ({ device, count: (8 * MIB) / SECTOR }));
      expectTook((await copier.zero(destinations)).durationMs, 2000);
    });

    test('P22 iops: every request to a device counts', async ({ workshop, client }) => {
      const { source, to } = await files(workshop, 4 * MIB, 2);
      const copier = await client({ engine, subJobSectors: 8, throttle: new Throttle({ iops: 500 }) });
      const destinations = to.map((device) => ({ device }));
      // 500 pieces, each read once and written twice.
      const { durationMs } = await copier.copy({ device: source, count: 500 * 8 }, destinations);
      expectTook(durationMs, 3000);
    });

    // A share has noise on both sides, so it may be measured again; a limit that does not hold is never within its bounds.
    test('P22 percent is the share of time with I/O outstanding', { retry: 2 }, async ({ workshop, client }) => {
      const { source } = await files(workshop, MIB);
      const slow = await workshop.faulty({ kind: 'slow', file: await workshop.file({ bytes: MIB }), writeMs: 20 });
      const disk = await workshop.attach(slow.path);
      const throttle = new Throttle({});
      const copier = await client({ engine, pages: 1, throttle });
      for (const percent of [10, 50, 90]) {
        throttle.set({ percent });
        const before = busyMs(disk.path);
        const { durationMs } = await copier.copy({ device: source, count: 30 * 8 }, { device: disk.path });
        const share = (100 * (busyMs(disk.path) - before)) / durationMs;
        expect(Math.abs(share - percent), `${percent} % came to ${share}`).toBeLessThan(5);
      }
    });

    test('P22 two clients that share a throttle share its limit', async ({ workshop, client }) => {
      const throttle = new Throttle({ bytesPerSecond: 4 * MIB });
      const copies = [1, 2].map(async () => {
        const { source, to } = await files(workshop, 5 * MIB);
        const copier = await client({ engine, throttle });
        return () => copier.copy({ device: source }, { device: to[0]! });
      });
      const begun = await Promise.all(copies);
      expectTook(await timed(Promise.all(begun.map((begin) => begin()))), 2500);
    });

    test('P22 it is changed while jobs run, in both directions', async ({ workshop, client }) => {
      const { source, to } = await files(workshop, 16 * MIB);
      const throttle = new Throttle({ bytesPerSecond: 64 * 1024 });
      const copier = await client({ engine, throttle });
      let progress!: () => void;
      const begun = new Promise<void>((resolve) => {
        progress = resolve;
      });
      const took = timed(copier.copy({ device: source }, { device: to[0]! }, { onProgress: progress }));
      await begun;
      // At the rate of before it would take four minutes; from here on it takes two seconds.
      const changed = performance.now();
      throttle.set({ bytesPerSecond: 8 * MIB });
      await took;
      expectTook(performance.now() - changed, 2000);
      throttle.set({});
      expect(await timed(copier.copy({ device: source }, { device: to[0]! }))).toBeLessThan(1000);
    });

    test('P23 a throttled client delivers completions at once', async ({ workshop, client, device }) => {
      const { source, to } = await files(workshop, MIB);
      const [from, opened] = [await device(source), await device(to[0]!, { access: 'write' })];
      // The first piece is let through and puts the account into debt for sixteen seconds.
      const copier = await client({ engine, throttle: new Throttle({ bytesPerSecond: 256 }) });
      const regions = [{ device: opened }];
      const [first, empty, prepared] = [completion(), completion(), completion()];
      const begin = performance.now();
      copier.submitCopy({ device: from, count: 8 }, regions, 0, first.notify);
      await first.called;
      const controller = new AbortController();
      const waiting = rejection(copier.copy({ device: from, count: 8 }, regions, { signal: controller.signal }));
      copier.submitCopy({ device: from, count: 0 }, regions, 0, empty.notify);
      copier.prepareCallback(prepared.notify)(0, 0);
      await empty.called;
      await prepared.called;
      await copier.delivered();
      controller.abort();
      expect((await waiting).name).toBe('AbortError');
      expect(performance.now() - begin).toBeLessThan(2000);
    });
  });
});

test('P22 a throttle is off by default, and one without limits is none', async ({ workshop, client }) => {
  const { source, to } = await files(workshop, 16 * MIB);
  for (const options of [{}, { throttle: new Throttle({}) }, { throttle: new Throttle({ percent: 100 }) }]) {
    const copier = await client(options);
    expect((await copier.copy({ device: source }, { device: to[0]! })).durationMs).toBeLessThan(2000);
  }
});
