// What every test of the face uses: clients and devices that are closed again, the engines that this machine runs, and other
// processes that import kcopyd. It uses kcopyd by its public door alone.
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type ClientOptions, Device, type DeviceOptions, KcopydClient, KcopydError } from 'kcopyd';
import { describe, expect, type TestAPI } from 'vitest';
import { type Ended, run } from './command.js';
import { test as inWorkshop, type Fixtures as Workshops } from './test.js';

export const ENGINES = ['io_uring', 'threads'] as const;
export type EngineName = (typeof ENGINES)[number];

export const SECTOR = 512;
export const MIB: number = 1 << 20;

export interface Fixtures extends Workshops {
  /** Makes a client; where its engine does not run, the test is skipped with the reason. Afterwards its pool must be whole. */
  client: (options?: ClientOptions) => Promise<KcopydClient>;
  /** Opens a device, and closes it afterwards. */
  device: (path: string, options?: DeviceOptions) => Promise<Device>;
}

export const test: TestAPI<Fixtures> = inWorkshop.extend<Omit<Fixtures, keyof Workshops>>({
  client: async ({ skip }, use) => {
    const clients: KcopydClient[] = [];
    await use(async (options) => {
      const client = await KcopydClient.create(options).catch((error: unknown) => {
        if (!(error instanceof KcopydError) || error.code !== 'ERR_KCOPYD_ENGINE_UNAVAILABLE') throw error;
        return skip(`${options?.engine} does not run here: ${error.message}`);
      });
      clients.push(client as KcopydClient);
      return client as KcopydClient;
    });
    for (const client of clients) {
      await client.close();
      expect(client.stats.pages.free, 'P19: the pool is whole at the end').toBe(client.stats.pages.total);
    }
  },
  device: async ({ workshop }, use) => {
    expect(workshop, 'what devices lie on outlives them').toBeDefined();
    const devices: Device[] = [];
    await use(async (path, options) => {
      const device = await Device.open(path, options);
      devices.push(device);
      return device;
    });
    await Promise.all(devices.map((device) => device.close()));
  },
});

/** The same tests on each engine. */
export function onEachEngine(tests: (engine: EngineName) => void): void {
  describe.each(ENGINES)('on %s', tests);
}

/** The error that a promise rejects with: it must be ours. */
export async function rejection(promise: Promise<unknown>): Promise<KcopydError> {
  const error = await promise.then(
    () => 'it resolved',
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(KcopydError);
  return error as KcopydError;
}

/** The error that a call throws: it must be ours. */
export function thrown(call: () => unknown): KcopydError {
  let error: unknown = 'it did not throw';
  try {
    call();
  } catch (reason) {
    error = reason;
  }
  expect(error).toBeInstanceOf(KcopydError);
  return error as KcopydError;
}

/** A completion of `submitCopy`, as a promise of what it was called with. */
export interface Completion {
  readonly notify: (...result: [readErr: number, writeErr: number, context: unknown]) => void;
  readonly called: Promise<[readErr: number, writeErr: number, context: unknown]>;
}

export function completion(): Completion {
  let notify!: Completion['notify'];
  const called: Completion['called'] = new Promise((resolve) => {
    notify = (...result) => resolve(result);
  });
  return { notify, called };
}

/** Runs a script in a process of its own; what kcopyd exports and `args` are in scope. */
export function inOwnProcess(
  script: string,
  args: unknown = {},
  options: { env?: NodeJS.ProcessEnv; wrap?: readonly string[]; timeoutMs?: number } = {},
): Promise<Ended> {
  const names = 'Device, IGNORE_ERROR, KcopydClient, KcopydError, support, Throttle, WRITE_SEQ';
  const prelude = `import { ${names} } from 'kcopyd'; const args = ${JSON.stringify(args)};`;
  const node = [process.execPath, '--input-type=module', '--eval', `${prelude}\n${script}`];
  const [program, ...rest] = [...(options.wrap ?? []), ...node] as [string, ...string[]];
  // In the root of the package 'kcopyd' is the package itself.
  const cwd = new URL('../..', import.meta.url).pathname;
  const { timeoutMs } = options;
  const { KCOPYD_TEST_PRELOAD } = process.env;
  const preload = KCOPYD_TEST_PRELOAD === undefined ? {} : { LD_PRELOAD: KCOPYD_TEST_PRELOAD };
  const env = { ...process.env, ...preload, ...options.env };
  return run(program, rest, { cwd, env, ...(timeoutMs && { timeoutMs }) });
}

/** Whether a file holds these bytes; says where it does not, instead of printing both. */
export async function expectFile(path: string, bytes: Buffer): Promise<void> {
  expectBytes(await readFile(path), bytes, path);
}

/** The same of bytes that were read. */
export function expectBytes(actual: Buffer, expected: Buffer, what: string): void {
  expect(actual.length, `bytes of ${what}`).toBe(expected.length);
  if (actual.equals(expected)) return;
  const first = actual.findIndex((byte, index) => byte !== expected[index]);
  expect.fail(`${what} differs at byte ${first}, in sector ${Math.floor(first / SECTOR)}`);
}

/** What a block device has read and written since it was attached, in sectors. */
export function sectorsMoved(device: string): { read: number; written: number } {
  const fields = readFileSync(`/sys/class/block/${device.replace('/dev/', '')}/stat`, 'utf8')
    .trim()
    .split(/\s+/);
  return { read: Number(fields[2]), written: Number(fields[6]) };
}
