// P30: what callers hand in is read once, own properties only, checked before anything happens, and refused by name.
import { open, readFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { Device, type DeviceOptions, KcopydClient, type KcopydError, Throttle } from 'kcopyd';
import { describe, expect } from 'vitest';
import { expectFile, inOwnProcess, MIB, rejection, test, thrown } from './support/kcopyd.js';
import { randomBytes } from './support/random.js';

const TYPE = 'ERR_INVALID_ARG_TYPE';
const RANGE = 'ERR_OUT_OF_RANGE';

/** Calls as JavaScript can, whatever the types say. */
type Anything = (...args: unknown[]) => Promise<unknown>;

function polluted<T>(properties: Record<string, unknown>, call: () => T): T {
  Object.assign(Object.prototype, properties);
  try {
    return call();
  } finally {
    for (const key of Object.keys(properties)) Reflect.deleteProperty(Object.prototype, key);
  }
}

function said({ code, message }: KcopydError): string {
  return `${code} ${message}`;
}

describe('copy', () => {
  interface Bad {
    readonly path: string;
    readonly to: string;
    /** What a call with these arguments is refused with. */
    readonly refusal: (...args: unknown[]) => Promise<string>;
  }

  /** Tests of bad arguments; at the end nothing has happened. */
  const refuses = test.extend<{ bad: Bad }>({
    bad: async ({ workshop, client }, use) => {
      const path = await workshop.file({ bytes: MIB, seed: 'source' });
      const to = await workshop.file({ bytes: MIB, seed: 'before' });
      const copier = await client();
      const refusal: Bad['refusal'] = async (...args) =>
        said(await rejection((copier.copy.bind(copier) as Anything)(...args)));
      await use({ path, to, refusal });
      expect(copier.stats).toMatchObject({ jobs: 0, bytes: 0 });
      await expectFile(to, randomBytes('before', MIB));
    },
  });

  refuses('P30 wrong regions are refused by name', async ({ bad: { path, to, refusal } }) => {
    expect(await refusal()).toMatch(`${TYPE} from must be a region`);
    expect(await refusal({ device: path })).toMatch(`${TYPE} to must be a region`);
    expect(await refusal(undefined, { device: to })).toMatch(`${TYPE} from must be a region`);
    expect(await refusal(null, { device: to })).toMatch(
      `${TYPE} from must be a region: { device }, or { device, sector, count }. Received null`,
    );
    expect(await refusal(path, { device: to })).toMatch(
      `${TYPE} from must be a region: { device }, or { device, sector, count }. Received string '`,
    );
    expect(await refusal([{ device: path }], { device: to })).toMatch(
      `${TYPE} from must be a region: { device }, or { device, sector, count }. Received an array of 1`,
    );
    expect(await refusal({ device: path }, to)).toMatch(`${TYPE} to must be a region: { device }, or`);
    expect(await refusal({ device: path }, [{ device: to }, null])).toMatch(
      `${TYPE} to[1] must be a region: { device }, or { device, sector, count }. Received null`,
    );
    expect(await refusal({ device: path }, new Array(2))).toMatch(`${TYPE} to[0] must be a region`);
    expect(await refusal({}, { device: to })).toMatch(`${TYPE} from.device must be a Device, a path`);
    expect(await refusal({ device: path }, [{ device: to }, {}])).toMatch(
      `${TYPE} to[1].device must be a Device, a path`,
    );
    for (const device of [true, {}, [], Symbol('s'), () => {}, 1n]) {
      expect(await refusal({ device }, { device: to })).toMatch(`${TYPE} from.device must be a Device, a path`);
    }
  });

  refuses(
    'P30 a device in the place of a region on it is said to be one',
    async ({ bad: { path, to, refusal }, device }) => {
      const opened = await device(path);
      const handle = await open(path);
      for (const bare of [opened, handle, pathToFileURL(path), Buffer.from(path), path, 3]) {
        expect(await refusal(bare, { device: to })).toMatch(`${TYPE} from must be a region: { device }, or`);
        expect(await refusal({ device: path }, [{ device: to }, bare])).toMatch(`${TYPE} to[1] must be a region`);
      }
      await handle.close();
    },
  );

  refuses('P30 none and 33 destinations are refused', async ({ bad: { path, to, refusal } }) => {
    expect(await refusal({ device: path }, [])).toMatch(
      `${RANGE} to must be an array of 1 to 32 regions. Received an array of 0`,
    );
    const many = Array.from({ length: 33 }, () => ({ device: to }));
    expect(await refusal({ device: path }, many)).toMatch(
      `${RANGE} to must be an array of 1 to 32 regions. Received an array of 33`,
    );
  });

  refuses(
    'P30 numbers are checked: negative, NaN, fractional, beyond 2^53, wrong type',
    async ({ bad: { path, to, refusal } }) => {
      const outside = [
        -1,
        -1n,
        Number.NaN,
        0.5,
        2 ** 53,
        2n ** 53n,
        1e300,
        Number.POSITIVE_INFINITY,
        Number.NEGATIVE_INFINITY,
      ];
      for (const number of outside) {
        expect(await refusal({ device: path, sector: number }, { device: to })).toMatch(
          `${RANGE} from.sector must be a whole number`,
        );
        expect(await refusal({ device: path, count: number }, { device: to })).toMatch(
          `${RANGE} from.count must be a whole number`,
        );
        expect(await refusal({ device: path }, { device: to, sector: number })).toMatch(
          `${RANGE} to.sector must be a whole number`,
        );
        const second = [{ device: to }, { device: to, count: number }];
        expect(await refusal({ device: path }, second)).toMatch(`${RANGE} to[1].count must be a whole number`);
      }
      for (const number of ['1', null, {}, [], true]) {
        expect(await refusal({ device: path, sector: number }, { device: to })).toMatch(
          `${TYPE} from.sector must be a number or a bigint`,
        );
      }
    },
  );

  refuses('P30 a destination of another count than the source is refused', async ({ bad: { path, to, refusal } }) => {
    const unequal = refusal({ device: path, count: 8 }, [
      { device: to, count: 8 },
      { device: to, sector: 8, count: 9 },
    ]);
    expect(await unequal).toMatch(`${RANGE} to[1].count must be the source's count, 8, or absent. Received number 9`);
    expect(await refusal({ device: path }, { device: to, count: 9 })).toMatch(RANGE);
  });

  refuses('P30 an unknown property is refused with the nearest known one', async ({ bad: { path, to, refusal } }) => {
    const region = { device: to };
    expect(await refusal({ device: path, sectors: 1 }, region)).toBe(
      `${TYPE} from.sectors is not known. Did you mean from.sector?`,
    );
    expect(await refusal({ device: path }, [region, { ...region, Count: 1 }])).toBe(
      `${TYPE} to[1].Count is not known. Did you mean to[1].count?`,
    );
    expect(await refusal({ dev: path }, region)).toBe(`${TYPE} from.dev is not known. Did you mean from.device?`);
    const options = { ignoreError: 'ignoreErrors', fsync: 'flush', abortSignal: 'signal', onprogress: 'onProgress' };
    for (const [key, nearest] of Object.entries(options)) {
      const words = `${TYPE} options.${key} is not known. Did you mean options.${nearest}?`;
      expect(await refusal({ device: path }, region, { [key]: true })).toBe(words);
    }
    // Also one that is undefined, inherited by nobody, hidden, or of a name that every object has.
    expect(await refusal({ device: path }, region, { flsh: undefined })).toMatch('Did you mean options.flush?');
    expect(await refusal({ device: path }, region, { toString: 1 })).toMatch(`${TYPE} options.toString is not known`);
    expect(await refusal({ device: path }, region, JSON.parse('{"__proto__":1}'))).toMatch(
      `${TYPE} options.__proto__ is not known`,
    );
    const hidden = Object.defineProperty({}, 'flsh', { value: 1, enumerable: false });
    expect(await refusal({ device: path }, region, hidden)).toMatch('Did you mean options.flush?');
  });

  refuses('P30 wrong options are refused by name', async ({ bad: { path, to, refusal } }) => {
    const [from, region] = [{ device: path }, { device: to }];
    expect(await refusal(from, region, null)).toMatch(`${TYPE} options must be an object. Received null`);
    expect(await refusal(from, region, 4)).toMatch(`${TYPE} options must be an object. Received number 4`);
    expect(await refusal(from, region, { ignoreErrors: 1 })).toMatch(
      `${TYPE} options.ignoreErrors must be true or false`,
    );
    expect(await refusal(from, region, { flush: 'yes' })).toMatch(`${TYPE} options.flush must be true or false`);
    expect(await refusal(from, region, { sequential: 1 })).toMatch(`${TYPE} options.sequential must be true or false`);
    expect(await refusal(from, region, { onProgress: {} })).toMatch(`${TYPE} options.onProgress must be a function`);
    const half = { aborted: false, addEventListener() {} };
    for (const signal of [{}, true, new AbortController(), new EventTarget(), { aborted: false }, half]) {
      expect(await refusal(from, region, { signal })).toMatch(`${TYPE} options.signal must be an AbortSignal`);
    }
  });

  refuses('a path that cannot be is refused by name', async ({ bad: { path, to, refusal } }) => {
    expect(await refusal({ device: 'a\0b' }, { device: to })).toMatch(
      `${RANGE} from.device must be a path without zero bytes`,
    );
    expect(await refusal({ device: Buffer.from([47, 0]) }, { device: to })).toMatch(
      `${RANGE} from.device must be a path without`,
    );
    const url = new URL('http://example.test/disk');
    expect(await refusal({ device: path }, [{ device: url }])).toMatch(`${TYPE} to[0].device cannot be used`);
    for (const descriptor of [-1, 1.5, Number.NaN, 2 ** 31]) {
      expect(await refusal({ device: descriptor }, { device: to })).toMatch(
        `${RANGE} from.device must be a file descriptor`,
      );
    }
  });

  test('P30 numbers and bigints mean the same', async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const destination = await workshop.file({ bytes: 0 });
    const copier = await client();
    const from = { device: source, sector: 3n, count: 5n };
    const outcome = await copier.copy(from, { device: destination, sector: 2n, count: 5 });
    expect(outcome.sectors).toBe(5);
    await copier.copy({ device: source, sector: -0, count: -0 }, { device: destination, sector: -0 });
    const held = (await readFile(destination)).subarray(1024);
    expect(held.equals(randomBytes('source', MIB).subarray(3 * 512, 8 * 512))).toBe(true);
  });

  test('P30 every property is read once, in one go', async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const destination = await workshop.file({ bytes: 0 });
    const copier = await client();
    const reads = new Map<string, number>();
    const watched = (name: string, target: object): never => {
      return new Proxy(target, {
        get(object, key) {
          reads.set(`${name}.${String(key)}`, (reads.get(`${name}.${String(key)}`) ?? 0) + 1);
          return Reflect.get(object, key);
        },
      }) as never;
    };
    const [from, to] = [
      { device: source, sector: 0, count: 8 },
      { device: destination, sector: 0 },
    ];
    const options = { flush: false, ignoreErrors: true };
    const copying = copier.copy(watched('from', from), watched('to', to), watched('options', options));
    // What is changed afterwards does not count.
    Object.assign(from, { device: 'nowhere', count: 9 });
    Object.assign(to, { device: 'nowhere', sector: -1 });
    expect((await copying).sectors).toBe(8);
    const once = [
      'from.device',
      'from.sector',
      'from.count',
      'to.device',
      'to.sector',
      'options.flush',
      'options.ignoreErrors',
    ];
    expect(Object.fromEntries(reads)).toEqual(Object.fromEntries(once.map((key) => [key, 1])));
  });

  test('P30 what is put on Object.prototype is no option', async ({ workshop, client }) => {
    const path = await workshop.file({ bytes: 64 * 1024, seed: 'source' });
    const to = await workshop.file({ bytes: 64 * 1024, seed: 'before' });
    const copier = await client();
    // Only while the call reads its arguments, which it does before it returns.
    const copied = polluted({ sector: 8, count: 16, flush: 'neither true nor false' }, () =>
      copier.copy({ device: path }, { device: to }, {}),
    );
    expect(await copied).toMatchObject({ sectors: 128 });
    await expectFile(to, randomBytes('source', 64 * 1024));
    const missing = workshop.path();
    const opened = polluted({ create: true, access: 'write' }, () => Device.open(missing));
    expect(await rejection(opened)).toMatchObject({ code: 'ENOENT' });
  });

  test('P30 inherited properties do not count', async ({ workshop, client }) => {
    const source = await workshop.file({ bytes: MIB, seed: 'source' });
    const destination = await workshop.file({ bytes: MIB });
    const copier = await client();
    const polluted = Object.prototype as Record<string, unknown>;
    polluted.sector = 1000;
    polluted.flush = 'not even a boolean';
    try {
      const outcome = await copier.copy({ device: source, count: 8 }, { device: destination }, {});
      expect(outcome.sectors).toBe(8);
    } finally {
      delete polluted.sector;
      delete polluted.flush;
    }
    const inherited = Object.create({ flsh: 1, sequential: true }) as object;
    await copier.copy(
      { device: source, count: 8 },
      { device: destination },
      Object.assign(inherited, { flush: false }),
    );
    expect((await readFile(destination)).subarray(0, 4096).equals(randomBytes('source', 4096))).toBe(true);
    await copier.copy({ device: source, count: 8 }, { device: destination }, Object.create(null));
  });

  test('what a getter throws is what copy rejects with', async ({ client }) => {
    const copier = await client();
    const mine = new Error('mine');
    const from = {
      get device(): string {
        throw mine;
      },
    };
    await expect(copier.copy(from, { device: 'nowhere' })).rejects.toBe(mine);
  });
});

describe('KcopydClient.create', () => {
  const create = async (options: unknown): Promise<string> =>
    said(await rejection((KcopydClient.create as Anything)(options)));

  test('P30 wrong options are refused by name', async () => {
    expect(await create(null)).toMatch(`${TYPE} options must be an object`);
    expect(await create({ page: 1 })).toBe(`${TYPE} options.page is not known. Did you mean options.pages?`);
    expect(await create({ subjobSectors: 1 })).toBe(
      `${TYPE} options.subjobSectors is not known. Did you mean options.subJobSectors?`,
    );
    for (const pages of [0, -1, 1.5, Number.NaN, 2 ** 20 + 1])
      expect(await create({ pages })).toMatch(`${RANGE} options.pages must be`);
    expect(await create({ pages: '1' })).toMatch(`${TYPE} options.pages must be`);
    expect(await create({ pages: 1n })).toMatch(`${TYPE} options.pages must be`);
    for (const subJobSectors of [7, 2049, 8.5])
      expect(await create({ subJobSectors })).toMatch(`${RANGE} options.subJobSectors must be`);
    expect(await create({ pages: 2, subJobSectors: 17 })).toMatch(`${RANGE} options.subJobSectors must be at most 16`);
    expect(await create({ engine: 'uring' })).toMatch(
      `${RANGE} options.engine must be one of 'auto', 'io_uring', 'threads'`,
    );
    expect(await create({ engine: 1 })).toMatch(`${TYPE} options.engine must be one of`);
    for (const throttle of [{}, { percent: 5 }, null, 5, Object.create(Throttle.prototype)])
      expect(await create({ throttle })).toMatch(`${TYPE} options.throttle must be a Throttle`);
  });

  test('the default sub-job is clamped to the pool', async ({ client }) => {
    const copier = await client({ pages: 1 });
    expect(copier.stats.pages).toEqual({ total: 1, free: 1 });
  });

  test('KCOPYD_ENGINE stands in for auto, and for auto alone', async () => {
    const script = `
      const engine = async (options) => {
        try {
          const client = await KcopydClient.create(options);
          await client.close();
          return client.stats.engine.kind;
        } catch ({ code, message }) {
          return code + ' ' + message;
        }
      };
      console.log(JSON.stringify([await engine(), await engine({ engine: 'auto' }), await engine({ engine: 'threads' })]));`;
    const under = async (KCOPYD_ENGINE: string): Promise<string[]> => {
      const { stdout } = await inOwnProcess(script, {}, { env: { KCOPYD_ENGINE } });
      return JSON.parse(stdout) as string[];
    };
    expect(await under('threads')).toEqual(['threads', 'threads', 'threads']);
    expect(await under('')).toEqual(await under('auto'));
    const words = `${RANGE} the environment variable KCOPYD_ENGINE must be one of 'auto', 'io_uring', 'threads'. Received string 'ring'`;
    expect(await under('ring')).toEqual([words, words, 'threads']);
  });
});

describe('Device.open', () => {
  const open = async (...args: unknown[]): Promise<string> => said(await rejection((Device.open as Anything)(...args)));

  test('P30 wrong arguments are refused by name', async ({ workshop }) => {
    const path = await workshop.file({ bytes: 512 });
    for (const bad of [undefined, null, 1, {}, [], true])
      expect(await open(bad)).toMatch(`${TYPE} path must be a path`);
    expect(await open('a\0')).toMatch(`${RANGE} path must be a path without zero bytes`);
    expect(await open(path, 'r')).toMatch(`${TYPE} options must be an object`);
    expect(await open(path, { acess: 'read' })).toBe(
      `${TYPE} options.acess is not known. Did you mean options.access?`,
    );
    expect(await open(path, { access: 'rw' })).toMatch(
      `${RANGE} options.access must be one of 'read', 'write', 'read-write'`,
    );
    expect(await open(path, { direct: true })).toMatch(`${TYPE} options.direct must be one of`);
    expect(await open(path, { exclusive: 'yes' })).toMatch(`${TYPE} options.exclusive must be true or false`);
    expect(await open(path, { create: 0 })).toMatch(`${TYPE} options.create must be true or false`);
    expect(await open(path, { expect: 1 })).toMatch(`${TYPE} options.expect must be an object`);
    expect(await open(path, { expect: { bytes: 1 } })).toMatch(`${TYPE} options.expect.bytes is not known`);
    expect(await open(path, { expect: { size: -1 } })).toMatch(`${RANGE} options.expect.size must be a whole number`);
  });

  test('P30 options are read before anything happens', async ({ workshop }) => {
    const path = await workshop.file({ bytes: 512 });
    const options: DeviceOptions = { access: 'write' };
    const opening = Device.open(path, options);
    options.access = 'read';
    const device = await opening;
    await device.close();
    expect(device.path).toBe(path);
  });
});

describe('Throttle', () => {
  const make = (...args: unknown[]): string =>
    said(thrown(() => new (Throttle as unknown as new (...args: unknown[]) => Throttle)(...args)));

  test('P30 wrong limits are refused by name, by the constructor and by set, and change nothing', () => {
    const throttle = new Throttle({ percent: 50 });
    const set = (limits: unknown): string => said(thrown(() => throttle.set(limits as { percent: number })));
    for (const refusal of [make, set]) {
      expect(refusal(undefined)).toMatch(`${TYPE} limits must be an object`);
      for (const limits of [null, 5, 'fast', []]) expect(refusal(limits)).toMatch(`${TYPE} limits must be an object`);
      expect(refusal({ percents: 5 })).toBe(`${TYPE} limits.percents is not known. Did you mean limits.percent?`);
      expect(refusal({ bps: 5 })).toMatch(`${TYPE} limits.bps is not known`);
      for (const percent of [0, 101, -1, 0.5, Number.NaN])
        expect(refusal({ percent })).toMatch(`${RANGE} limits.percent must be a whole number from 1 to 100`);
      for (const number of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
        expect(refusal({ bytesPerSecond: number })).toMatch(`${RANGE} limits.bytesPerSecond must be a whole number`);
        expect(refusal({ iops: number })).toMatch(`${RANGE} limits.iops must be a whole number`);
      }
      for (const number of ['5', null, 5n, true])
        expect(refusal({ percent: number })).toMatch(`${TYPE} limits.percent`);
    }
    throttle.set({});
    const limits: object = { percent: 1, bytesPerSecond: undefined, iops: 2 ** 53 - 1 };
    throttle.set(limits);
  });

  test('a Throttle is made and changed where the native part does not run', async () => {
    const script = `
      const throttle = new Throttle({ percent: 10 });
      throttle.set({ iops: 5 });
      const error = await KcopydClient.create({ throttle }).catch(({ code }) => code);
      console.log(error);`;
    const ended = await inOwnProcess(script, {}, { env: { KCOPYD_NATIVE_LIBRARY_PATH: '/nowhere/kcopyd.node' } });
    expect(ended.stderr).toBe('');
    expect(ended.stdout.trim()).toBe('ERR_KCOPYD_BINDING_NOT_FOUND');
  });
});
