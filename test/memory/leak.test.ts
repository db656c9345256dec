// The leak run: jobs and clients by the thousand, in a process of their own, and then a look at what is left: memory, descriptors,
// threads. `npm run test:memory -- leak` says how many.
import { expect } from 'vitest';
import { inOwnProcess, MIB, onEachEngine, SECTOR, test } from '../support/kcopyd.js';

const JOBS = Number(process.env.KCOPYD_TEST_JOBS ?? 100_000);
const ROUNDS = 5;
const CLIENTS = Number(process.env.KCOPYD_TEST_CLIENTS ?? 1_000);

/** Declares `measure`: what this process holds outside of JavaScript's heap, after everything that can be collected has been. */
const MEASURE = `
  import { readdirSync, readFileSync } from 'node:fs';
  import { setTimeout } from 'node:timers/promises';
  import { setFlagsFromString } from 'node:v8';
  import { runInNewContext } from 'node:vm';
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  const ownThreads = () => readdirSync('/proc/self/task').filter((id) => {
    try { return readFileSync('/proc/self/task/' + id + '/comm', 'utf8').startsWith('kcopyd'); } catch { return false; }
  }).length;
  // Of the memory that is mapped V8's heap is its own affair; what is left hardly moves, and the allocator's part of it is
  // looked at page by page. V8 gives pages back in its own time: so the least of some looks.
  function bytes() {
    const mapped = 1024 * Number(/^VmSize:\\s*(\\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
    const allocated = /\\[heap\\]\\n(?:.*\\n)*?Rss: *(\\d+) kB/.exec(readFileSync('/proc/self/smaps', 'utf8'))?.[1] ?? 0;
    return mapped - process.memoryUsage().heapTotal + 1024 * Number(allocated);
  }
  async function measure() {
    let least = Number.POSITIVE_INFINITY;
    for (let look = 0; look < 10; look++) {
      collect();
      await setTimeout(50);
      least = Math.min(least, bytes());
    }
    return { bytes: least, descriptors: readdirSync('/proc/self/fd').length, threads: ownThreads() };
  }
  async function round(jobs, clients) {
    const { engine, source, destination } = args;
    const from = await Device.open(source);
    const to = await Device.open(destination, { access: 'write' });
    const client = await KcopydClient.create({ engine, pages: 64 });
    // Half of them in the kernel's shape, half with a promise; every tenth fails, every tenth is aborted, some have progress.
    for (let begun = 0; begun < jobs; begun += 100) {
      await Promise.all(Array.from({ length: 100 }, (_, index) => {
        const region = { device: from, sector: index, count: 8 };
        const target = { device: to, sector: 8 * index };
        if (index % 2 === 0) return new Promise((resolve) => client.submitCopy(region, [target], 0, resolve));
        if (index % 10 === 1) return client.copy(region, { ...target, device: from }).catch(() => {});
        if (index % 10 === 3) return client.copy(region, target, { signal: AbortSignal.abort() }).catch(() => {});
        if (index % 10 === 5) return client.copy(region, target, { onProgress() {} });
        if (index % 10 === 7) return client.zero({ ...target, count: 8 });
        return client.copy(region, target, { flush: begun % 1000 === 0 });
      }));
    }
    await client.close();
    for (let made = 0; made < clients; made++) {
      const short = await KcopydClient.create({ engine, pages: 8 });
      await short.copy({ device: from, count: 8 }, { device: to });
      await short.close();
    }
    await from.close();
    await to.close();
  }`;

onEachEngine((engine) => {
  test('P19 and P24 jobs and clients leave no memory, no descriptor, no thread', async ({ workshop }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const destination = await workshop.file({ bytes: 100 * 8 * SECTOR });
    // What Node and the allocator take once they have after some rounds; a leak grows in every one.
    const script = `${MEASURE}
      const rounds = [];
      for (let count = 0; count < ${ROUNDS}; count++) {
        await round(${JOBS}, ${CLIENTS});
        rounds.push(await measure());
      }
      console.log(JSON.stringify(rounds));`;
    // One arena of the allocator's: otherwise threads take one after the other, until all are warm.
    const options = { timeoutMs: 580_000, env: { MALLOC_ARENA_MAX: '1' } };
    const { stdout, stderr, code } = await inOwnProcess(script, { engine, source, destination }, options);
    expect(code, stderr).toBe(0);
    const rounds = JSON.parse(stdout) as { bytes: number; descriptors: number; threads: number }[];
    const grown = rounds.slice(1).map(({ bytes }, index) => bytes - (rounds[index]?.bytes ?? 0));
    console.log(`${engine}: ${JOBS} jobs and ${CLIENTS} clients a round; bytes more after each: ${grown.join(', ')}`);
    const last = rounds.at(-1);
    expect(last).toMatchObject({ threads: 0, descriptors: rounds[0]?.descriptors });
    // What leaks grows in every round; the allocator may take some mebibytes once, in any of them.
    const warm = grown.slice(1).sort((a, b) => a - b);
    expect(warm[0]).toBeLessThanOrEqual(MIB);
  });
});
