// The end of a process, of a worker and of an object, each in the middle of jobs: no hang, no crash, nothing left, and the exit
// code that Node would have had without kcopyd. What ends runs in processes of its own; each test is held on each engine.
import { readFile } from 'node:fs/promises';
import { expect } from 'vitest';
import type { Ended } from './support/command.js';
import { type EngineName, inOwnProcess, MIB, onEachEngine, test } from './support/kcopyd.js';
import type { Workshop } from './support/workshop.js';

interface Paths {
  readonly engine: EngineName;
  readonly source: string;
  readonly destination: string;
}

async function paths(workshop: Workshop, engine: EngineName): Promise<Paths> {
  const source = await workshop.file({ bytes: MIB, seed: 'source' });
  return { engine, source, destination: await workshop.file({ bytes: 0 }) };
}

/** Declares `copyForEver`: jobs that submit the next ones, and a promise of the time when they are well under way. */
const COPY_FOR_EVER = `
  async function copyForEver(jobs = 8) {
    const from = await Device.open(args.source);
    const to = await Device.open(args.destination, { access: 'write' });
    const client = await KcopydClient.create({ engine: args.engine, pages: 64 });
    let completed = 0;
    let isOver = false;
    await new Promise((underWay) => {
      const again = () => {
        if (isOver) return;
        completed++;
        if (completed === 3 * jobs) underWay();
        client.submitCopy({ device: from }, [{ device: to }], 0, again);
      };
      for (let job = 0; job < jobs; job++) again();
    });
    return { client, from, to, stop: () => { isOver = true; } };
  }`;

/** Declares `left`: what of kcopyd's is in this process, threads and descriptors. */
const LEFT = `
  import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
  const quietly = (look) => { try { return look(); } catch { return ''; } };
  function look() {
    // A thread that was joined may be listed for a moment still, with the flag PF_EXITING.
    const isOurs = ([, name, flags]) => name.startsWith('kcopyd') && (Number(flags) & 4) === 0;
    const stat = (id) => quietly(() => readFileSync('/proc/self/task/' + id + '/stat', 'utf8'));
    const stats = readdirSync('/proc/self/task').map((id) => /\\((.*)\\) . (?:-?\\d+ ){5}(\\d+)/.exec(stat(id)) ?? ['', '', '0']);
    const links = readdirSync('/proc/self/fd').map((fd) => quietly(() => readlinkSync('/proc/self/fd/' + fd)));
    const ours = [args.source, args.destination, 'anon_inode:[io_uring]'];
    return {
      threads: stats.filter(isOurs).length,
      descriptors: links.filter((link) => ours.includes(link)).length,
    };
  }
  // Newer Nodes have rings of their own from the beginning.
  const { descriptors: ofNode } = look();
  const left = () => ({ threads: look().threads, descriptors: look().descriptors - ofNode });`;

/** Runs a script in the middle of jobs. */
function inTheMiddle(args: Paths, script: string, options: Parameters<typeof inOwnProcess>[2] = {}): Promise<Ended> {
  return inOwnProcess(
    `${LEFT}\n${COPY_FOR_EVER}\nconst { client, from, to } = await copyForEver();\n${script}`,
    args,
    options,
  );
}

/** A worker that takes `args` and what kcopyd exports into scope, then runs a script. */
function workerOf(script: string): string {
  return JSON.stringify(`
    const { parentPort, workerData: args } = require('node:worker_threads');
    import('kcopyd').then(async ({ Device, KcopydClient }) => {
      ${COPY_FOR_EVER}
      ${script}
    });`);
}

const TIMES = 5;

onEachEngine((engine) => {
  test.for([
    ['process.exit()', 'process.exit(7);', { code: 7, signal: null, stderr: '' }],
    [
      'process.exit() in a callback',
      'client.submitCopy({ device: from }, [{ device: to }], 0, () => process.exit(7));',
      { code: 7, signal: null, stderr: '' },
    ],
    [
      'an exception in a callback',
      "client.submitCopy({ device: from }, [{ device: to }], 0, () => { throw new Error('mine'); });",
      { code: 1, signal: null },
    ],
    ['an uncaught exception', "setTimeout(() => { throw new Error('mine'); });", { code: 1, signal: null }],
    ['an unhandled rejection', "Promise.reject(new Error('mine'));", { code: 1, signal: null }],
    ['SIGTERM', "process.kill(process.pid, 'SIGTERM');", { code: null, signal: 'SIGTERM', stderr: '' }],
    ['SIGINT', "process.kill(process.pid, 'SIGINT');", { code: null, signal: 'SIGINT', stderr: '' }],
    [
      'a handled SIGTERM',
      "process.on('SIGTERM', () => process.exit(3)); process.kill(process.pid, 'SIGTERM');",
      { code: 3, signal: null, stderr: '' },
    ],
    ['unref() and nothing else to do', 'client.unref();', { code: 0, signal: null, stderr: '' }],
    ['process.reallyExit(), which runs nothing more', 'process.reallyExit(4);', { code: 4, signal: null, stderr: '' }],
  ] as const)('P25 in the middle of jobs: %s', async ([, script, expected], { workshop }) => {
    for (let time = 0; time < TIMES; time++) {
      // A new destination: what a process had in flight may hold the old one a moment longer than the process lives (P28).
      const args = await paths(workshop, engine);
      const ended = await inTheMiddle(args, script);
      expect(ended, `time ${time}: ${ended.stderr}`).toMatchObject(expected);
      expect(ended.stderr).not.toMatch(/panicked|FATAL|Assertion/);
    }
  });

  test('P25 a worker is terminated in the middle of jobs, of opening and of closing', async ({ workshop }) => {
    const args = await paths(workshop, engine);
    const own = { source: args.source, destination: await workshop.file({ bytes: 0 }) };
    // Where the worker is when it is terminated. Its devices are closed when terminate() resolves: else the next one could
    // not open the destination, which is held against others.
    const stages = [
      "await copyForEver(); parentPort.postMessage('in jobs');",
      "parentPort.postMessage('opening'); await copyForEver();",
      "const { client, stop } = await copyForEver(); stop(); client.close(); parentPort.postMessage('closing'); await client.close();",
      "const { from, to, stop } = await copyForEver(); stop(); parentPort.postMessage('closing devices'); await Promise.all([from.close(), to.close()]);",
      "for (let turn = 0; ; turn++) { if (turn === 3) parentPort.postMessage('creating'); await (await KcopydClient.create({ engine: args.engine, pages: 64 })).close(); }",
    ];
    const script = `
      import { Worker } from 'node:worker_threads';
      import { once } from 'node:events';
      const stages = [${stages.map(workerOf).join(',')}];
      const from = await Device.open(args.own.source);
      const to = await Device.open(args.own.destination, { access: 'write' });
      const client = await KcopydClient.create({ engine: args.engine, pages: 64 });
      for (let time = 0; time < 100; time++) {
        const worker = new Worker(stages[time % stages.length], { eval: true, execArgv: [], workerData: args });
        worker.on('error', (error) => { throw error; });
        const copied = client.copy({ device: from }, { device: to });
        await once(worker, 'message');
        await worker.terminate();
        // What the worker held is free.
        await (await Device.open(args.destination, { access: 'write' })).close();
        await copied;
      }
      await Promise.all([client.close(), from.close(), to.close()]);
      console.log(JSON.stringify(left()));`;
    const ended = await inOwnProcess(LEFT + script, { ...args, own }, { timeoutMs: 150_000 });
    expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' });
    expect(JSON.parse(ended.stdout)).toEqual({ threads: 0, descriptors: 0 });
    expect(await readFile(own.destination)).toEqual(await readFile(own.source));
  }, 160_000);

  test('P25 a worker that ends by itself or by an error leaves nothing, and the process lives', async ({
    workshop,
  }) => {
    const args = await paths(workshop, engine);
    const ends = [
      'const { client } = await copyForEver(); client.unref();',
      'await copyForEver(); process.exit(5);',
      "await copyForEver(); setTimeout(() => { throw new Error('mine'); });",
    ];
    const script = `
      import { Worker } from 'node:worker_threads';
      import { once } from 'node:events';
      const seen = [];
      for (const end of [${ends.map(workerOf).join(',')}]) {
        const worker = new Worker(end, { eval: true, execArgv: [], workerData: args });
        worker.on('error', (error) => seen.push(error.message));
        seen.push(await new Promise((resolve) => worker.on('exit', resolve)));
      }
      console.log(JSON.stringify({ seen, left: left() }));`;
    const ended = await inOwnProcess(LEFT + script, args);
    expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' });
    expect(JSON.parse(ended.stdout)).toEqual({ seen: [0, 5, 'mine', 1], left: { threads: 0, descriptors: 0 } });
  });

  test('P24 the end of a worker waits 5 s at most for a device that does not answer', async ({ workshop }) => {
    // One read, so that the kernel keeps the process no longer than needed.
    const file = await workshop.file({ bytes: 4096 });
    const { path: source } = await workshop.faulty({ kind: 'slow', file, readMs: 9_000 });
    const args = { engine, source, destination: await workshop.file({ bytes: 0 }) };
    const stuck = `
      const client = await KcopydClient.create({ engine: args.engine });
      client.copy({ device: args.source }, { device: args.destination });
      const { setTimeout } = require('node:timers/promises');
      while (client.stats.pages.free === client.stats.pages.total) await setTimeout(1);
      parentPort.postMessage('stuck');`;
    const script = `
      import { Worker } from 'node:worker_threads';
      import { once } from 'node:events';
      const worker = new Worker(${workerOf(stuck)}, { eval: true, execArgv: [], workerData: args });
      await once(worker, 'message');
      const begun = performance.now();
      await worker.terminate();
      console.log(performance.now() - begun);
      process.exitCode = 6;`;
    const ended = await inOwnProcess(script, args, { timeoutMs: 50_000 });
    expect(ended).toMatchObject({ code: 6, signal: null, stderr: '' });
    const waited = Number(ended.stdout);
    expect(waited).toBeGreaterThan(4_000);
    expect(waited).toBeLessThan(8_000);
  });

  test('P25 clients and devices that nobody knows any more are collected, and nothing of them is left', async ({
    workshop,
  }) => {
    const args = await paths(workshop, engine);
    const script = `
      import { setTimeout } from 'node:timers/promises';
      for (let time = 0; time < 30; time++) {
        await (async () => {
          const client = await KcopydClient.create({ engine: args.engine, pages: 64 });
          const from = await Device.open(args.source);
          const to = await Device.open(args.destination, { access: 'write', exclusive: false });
          await client.copy({ device: from }, { device: to });
          // One that is never waited for: the job alone keeps its client and its devices.
          client.submitCopy({ device: from }, [{ device: to }], 0, () => {});
        })();
      }
      const before = left();
      for (let turn = 0; turn < 1000 && (left().threads > 0 || left().descriptors > 0); turn++) {
        globalThis.gc();
        await setTimeout(5);
      }
      console.log(JSON.stringify({ before, after: left() }));`;
    const wrap = ['env', 'NODE_OPTIONS=--expose-gc'];
    const ended = await inOwnProcess(LEFT + script, args, { wrap });
    expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' });
    const { before, after } = JSON.parse(ended.stdout);
    expect(before.threads).toBeGreaterThan(0);
    expect(before.descriptors).toBeGreaterThan(0);
    expect(after).toEqual({ threads: 0, descriptors: 0 });
  });

  test('P31 child processes started during copies inherit nothing, and disturb nothing', async ({ workshop }) => {
    const args = await paths(workshop, engine);
    const own = { source: args.source, destination: await workshop.file({ bytes: 0 }) };
    const script = `
      import { execFileSync, execFile } from 'node:child_process';
      import { promisify } from 'node:util';
      const inherited = new Set();
      const list = ['-l', '/proc/self/fd'];
      const keep = (listing) => {
        for (const line of listing.split(/$/m)) if (/kcopyd|io_uring|eventfd/.test(line)) inherited.add(line);
      };
      const copied = client.copy({ device: args.own.source }, { device: args.own.destination });
      for (let time = 0; time < 20; time++) {
        keep(execFileSync('ls', list, { encoding: 'utf8' }));
        keep((await promisify(execFile)('ls', list)).stdout);
      }
      await copied;
      console.log(JSON.stringify([...inherited]));
      process.exit();`;
    const ended = await inTheMiddle({ ...args, own } as Paths, script);
    expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' });
    expect(JSON.parse(ended.stdout)).toEqual([]);
    expect(await readFile(own.destination)).toEqual(await readFile(own.source));
  });
});
