// Twenty workers at a time that are terminated at random moments, and processes that exit at random moments while their workers
// copy: no abort of Node's, no crash, no hang, the exit code that was asked for, and nothing left. (What becomes of one worker at
// chosen moments is held by test/lifecycle.test.ts.)
import { expect } from 'vitest';
import { inOwnProcess, MIB, onEachEngine, test } from '../support/kcopyd.js';
import { times } from './support/torture.js';

const ENDINGS = times('KCOPYD_TEST_ENDINGS', 100);
const AT_ONCE = 20;
const TIMEOUT_MS = 1_800_000;

/** A worker that copies and zeroes, opens and closes, creates and closes, for ever. It owns its destination. */
const WORKER = `
  const { parentPort, workerData: { engine, source, destination } } = require('node:worker_threads');
  import('kcopyd').then(async ({ Device, KcopydClient }) => {
    parentPort.postMessage('ready');
    for (;;) {
      const client = await KcopydClient.create({ engine, pages: 64, subJobSectors: 32 });
      const from = await Device.open(source);
      const to = await Device.open(destination, { access: 'write' });
      for (let turn = 0; turn < 20; turn++) {
        const jobs = [client.copy({ device: from }, { device: to }, { flush: turn % 4 === 0 })];
        jobs.push(client.copy({ device: from, count: 8 }, { device: to, sector: 4096 + 8 * turn }));
        if (turn % 3 === 0) client.submitCopy({ device: from, count: 64 }, [{ device: to, sector: 8192 }], 0, () => {});
        if (turn % 5 === 0) await Promise.all(jobs.map((job) => job.catch(() => {})));
      }
      await Promise.all([from.close(), to.close(), client.close()]);
    }
  });`;

/** Declares `start`: a worker that is well under way. */
const START = `
  import { once } from 'node:events';
  import { setTimeout } from 'node:timers/promises';
  import { Worker } from 'node:worker_threads';
  const problems = [];
  const start = async (number) => {
    const workerData = { ...args, destination: args.destinations[number] };
    const worker = new Worker(${JSON.stringify(WORKER)}, { eval: true, execArgv: [], workerData });
    worker.on('error', (error) => problems.push(String(error)));
    await once(worker, 'message');
    return worker;
  };
  const workers = await Promise.all(args.destinations.map((_, number) => start(number)));`;

onEachEngine((engine) => {
  test(`P25 workers are terminated, ${AT_ONCE} at a time`, { timeout: TIMEOUT_MS }, async ({ workshop }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const made = Array.from({ length: AT_ONCE }, () => workshop.file({ bytes: 8 * MIB }));
    const rounds = Math.ceil(ENDINGS / 2 / AT_ONCE);
    // A destination is free when terminate() resolves: the worker that comes next opens it.
    const script = `${START}
      import { readdirSync, readFileSync } from 'node:fs';
      let running = workers;
      for (let round = 0; round < args.rounds; round++) {
        await Promise.all(running.map(async (worker) => {
          await setTimeout(Math.random() * 30);
          await worker.terminate();
        }));
        if (round + 1 < args.rounds) running = await Promise.all(args.destinations.map((_, number) => start(number)));
      }
      const names = readdirSync('/proc/self/task').map((id) => {
        try { return readFileSync('/proc/self/task/' + id + '/comm', 'utf8'); } catch { return ''; }
      });
      console.log(JSON.stringify({ problems, threads: names.filter((name) => name.startsWith('kcopyd')).length }));`;
    const args = { engine, source, destinations: await Promise.all(made), rounds };
    const ended = await inOwnProcess(script, args, { timeoutMs: TIMEOUT_MS });
    expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' });
    expect(JSON.parse(ended.stdout)).toEqual({ problems: [], threads: 0 });
  });

  test('P25 process.exit() while twenty workers copy', { timeout: TIMEOUT_MS }, async ({ workshop }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const processes = Math.ceil(ENDINGS / 2 / AT_ONCE);
    for (let process = 0; process < processes; process++) {
      const made = Array.from({ length: AT_ONCE }, () => workshop.file({ bytes: 8 * MIB }));
      const script = `${START}
        for (const worker of workers.slice(0, 5)) worker.terminate();
        await setTimeout(Math.random() * 30);
        if (problems.length > 0) console.error(problems.join());
        process.exit(7);`;
      const ended = await inOwnProcess(script, { engine, source, destinations: await Promise.all(made) });
      expect(ended, `process ${process}: ${ended.stderr}`).toMatchObject({ code: 7, signal: null, stderr: '' });
    }
  });
});
