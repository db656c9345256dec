// Aborting: no new piece is begun, what is in flight lands, and the promise says what is held after all.
import { getEventListeners } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { KcopydError } from 'kcopyd';
import { expect } from 'vitest';
import { expectFile, inOwnProcess, MIB, onEachEngine, rejection, SECTOR, test } from './support/kcopyd.js';
import { randomBytes } from './support/random.js';

/** Tells when a job is under way: an `onProgress` and what it resolves. */
function firstProgress(): { readonly onProgress: () => void; readonly seen: Promise<void> } {
  let onProgress!: () => void;
  const seen = new Promise<void>((resolve) => {
    onProgress = resolve;
  });
  return { onProgress, seen };
}

function expectAbort(error: KcopydError, cause: unknown): void {
  expect(error).toMatchObject({ name: 'AbortError', code: 'ABORT_ERR' });
  expect(error.cause).toBe(cause);
  expect(error.message).toMatch(/^The operation was aborted; /);
  expect(error.outcome).toMatchObject({ writeErr: 0, readErr: 125, failures: [] });
}

onEachEngine((engine) => {
  test('P27 a signal that has aborted already: nothing is opened', async ({ workshop, client }) => {
    const copier = await client({ engine });
    const reason = new Error('no time');
    // Opening these would be ENOENT.
    const nowhere = { device: workshop.path() };
    const error = await rejection(copier.copy(nowhere, [nowhere, nowhere], { signal: AbortSignal.abort(reason) }));
    expectAbort(error, reason);
    expect(error.outcome).toMatchObject({
      sectors: 0,
      bytes: 0,
      destinations: [
        { sectors: 0, ok: false },
        { sectors: 0, ok: false },
      ],
    });
    expect(copier.stats).toMatchObject({ jobs: 0, bytes: 0 });
  });

  test('P27 an abort while paths are opened', async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const destination = await workshop.file({ bytes: MIB, seed: 'before' });
    const copier = await client({ engine });
    const controller = new AbortController();
    const copying = copier.copy({ device: source }, { device: destination }, { signal: controller.signal });
    controller.abort();
    expectAbort(await rejection(copying), controller.signal.reason);
    expect(copier.stats.bytes).toBe(0);
    await expectFile(destination, randomBytes('before', MIB));
  });

  test('P27 an abort of a 1 TiB job settles when what is in flight has landed', async ({
    workshop,
    client,
    device,
  }) => {
    // A small file system, which would end the job before it filled the machine's memory.
    const small = await workshop.tmpfs(16 * MIB);
    const source = await workshop.file({ bytes: 2 ** 40, path: `${small}/source` });
    const file = await workshop.file({ bytes: 2 ** 40, path: `${small}/destination` });
    const faulty = await workshop.faulty({ kind: 'slow', file, writeMs: 50 });
    const [from, to] = [await device(source), await device(faulty.path, { access: 'write' })];
    const copier = await client({ engine, subJobSectors: 16 });
    const controller = new AbortController();
    const started = firstProgress();
    const options = { signal: controller.signal, onProgress: started.onProgress };
    const copying = copier.copy({ device: from }, { device: to }, options);
    await started.seen;
    controller.abort('enough');
    const error = await rejection(copying);
    expectAbort(error, 'enough');
    expect(error.message).toMatch(/the destination holds (none|at least the first \d+) of 2147483648 sectors$/);
    expect(error.outcome!.destinations[0]).toEqual({ sectors: error.outcome!.sectors, ok: false });
    expect(copier.stats.pages.free).toBe(copier.stats.pages.total);
  });

  test('P27 after an abort has settled nothing lands any more, and memory in flight is not reused', async ({
    workshop,
    client,
    device,
  }) => {
    const source = await device(await workshop.file({ bytes: MIB, seed: 'source' }));
    const file = await workshop.file({ bytes: MIB, seed: 'before' });
    const faulty = await workshop.faulty({ kind: 'slow', file, writeMs: 100 });
    const slow = await device(faulty.path, { access: 'write' });
    const other = await device(await workshop.file({ bytes: MIB, seed: 'other' }));
    const elsewhere = await device(await workshop.file({ bytes: 0 }), { access: 'write' });
    const copier = await client({ engine, pages: 16, subJobSectors: 16 });
    const controller = new AbortController();
    const started = firstProgress();
    const copying = rejection(
      copier.copy({ device: source }, { device: slow }, { signal: controller.signal, onProgress: started.onProgress }),
    );
    await started.seen;
    controller.abort();
    // While the writes are in flight, the pool is wanted by another job.
    await copier.copy({ device: other }, { device: elsewhere });
    const { outcome } = await copying;
    const settled = await readFile(file);
    const [before, fresh] = [randomBytes('before', MIB), randomBytes('source', MIB)];
    for (let at = 0; at < MIB; at += SECTOR) {
      const sector = settled.subarray(at, at + SECTOR);
      const copied = sector.equals(fresh.subarray(at, at + SECTOR));
      expect(copied || sector.equals(before.subarray(at, at + SECTOR)), `sector ${at / SECTOR}`).toBe(true);
      if (at < outcome!.bytes) expect(copied, `sector ${at / SECTOR} of the prefix`).toBe(true);
    }
    await faulty.stop();
    await expectFile(file, settled);
    await expectFile(elsewhere.path, randomBytes('other', MIB));
  });

  test('P27 an abort of one job is no abort of another', async ({ workshop, client, device }) => {
    const source = await device(await workshop.file({ bytes: MIB, seed: 'source' }));
    const faulty = await workshop.faulty({ kind: 'slow', file: await workshop.file({ bytes: MIB }), writeMs: 20 });
    const slow = await device(faulty.path, { access: 'write' });
    const healthy = await workshop.file({ bytes: 0 });
    const copier = await client({ engine, subJobSectors: 8 });
    const controller = new AbortController();
    const started = firstProgress();
    const aborted = rejection(
      copier.copy({ device: source }, { device: slow }, { signal: controller.signal, onProgress: started.onProgress }),
    );
    const whole = copier.copy({ device: source }, { device: healthy }, { signal: new AbortController().signal });
    await started.seen;
    controller.abort();
    expect((await whole).sectors).toBe(2048);
    expectAbort(await aborted, controller.signal.reason);
    await expectFile(healthy, randomBytes('source', MIB));
  });

  test('a job that was complete before the abort took effect resolves', async ({ workshop, client, device }) => {
    const source = await device(await workshop.file({ bytes: MIB, seed: 'source' }));
    const destination = await device(await workshop.file({ bytes: 0 }), { access: 'write' });
    const copier = await client({ engine });
    const controller = new AbortController();
    const copying = copier.copy({ device: source, count: 8 }, { device: destination }, { signal: controller.signal });
    // The job ends while this thread is busy; only its delivery is still to come.
    const until = performance.now() + 100;
    while (performance.now() < until);
    controller.abort();
    expect(await copying).toMatchObject({ sectors: 8, readErr: 0 });
  });

  test('a listener is removed however the job ends', async ({ workshop, client, device }) => {
    const source = await device(await workshop.file({ bytes: MIB, seed: 'source' }));
    const destination = await device(await workshop.file({ bytes: 0 }), { access: 'write' });
    const copier = await client({ engine });
    const { signal } = new AbortController();
    const copying = copier.copy({ device: source }, { device: destination }, { signal });
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
    await copying;
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
    await rejection(copier.copy({ device: source, sector: 9999 }, { device: destination }, { signal }));
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
    await rejection(copier.copy({ device: source }, { device: workshop.path() }, { signal }));
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
  });
});

test('P27 one signal may abort many jobs at once, and Node does not take that for a leak', async ({ workshop }) => {
  const [source, destination] = [await workshop.file({ bytes: MIB }), await workshop.file({ bytes: MIB })];
  const script = `
    const [source, destination] = [await Device.open(args[0]), await Device.open(args[1], { access: 'write' })];
    const client = await KcopydClient.create();
    const { signal } = new AbortController();
    const job = (sector) => client.copy({ device: source, sector, count: 8 }, { device: destination, sector }, { signal });
    await Promise.all(Array.from({ length: 64 }, (_, index) => job(8 * index)));
    await Promise.all([client.close(), source.close(), destination.close()]);`;
  expect(await inOwnProcess(script, [source, destination])).toMatchObject({ code: 0, stderr: '' });
});

test("P1 a signal of the caller's own making that throws costs no job its end, and surfaces", async ({ workshop }) => {
  const [source, destination] = [await workshop.file({ bytes: MIB }), await workshop.file({ bytes: MIB })];
  const script = `
    const [from, to] = [{ device: await Device.open(args[0]) }, { device: await Device.open(args[1], { access: 'write' }) }];
    // One page, so that no job is over before it is aborted.
    const client = await KcopydClient.create({ pages: 1 });
    const surfaced = [];
    process.on('uncaughtException', (error) => surfaced.push(error.message));
    const refuse = (word) => () => { throw new Error(word); };
    const ended = (signal) => client.copy(from, to, { signal }).then(() => 'resolved', ({ code }) => code);
    const stuck = { aborted: false, addEventListener() {}, removeEventListener: refuse('remove') };
    const controller = new AbortController();
    Object.defineProperty(controller.signal, 'reason', { get: refuse('reason') });
    const ends = [ended(stuck), ended(controller.signal), ended(undefined)];
    controller.abort();
    console.log(JSON.stringify(await Promise.all(ends)));
    await client.close();
    console.log(surfaced.sort().join());`;
  const { code, stdout, stderr } = await inOwnProcess(script, [source, destination], { timeoutMs: 20_000 });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toBe('["resolved","ABORT_ERR","resolved"]\nreason,remove\n');
});
