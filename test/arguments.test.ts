// P30 by chance: random arguments, as JavaScript can hand them in, against a second opinion on what must be said of them. No
// device is opened: an accepted job ends with the system's word on a path that is not there.
import fc from 'fast-check';
import { type KcopydClient, KcopydError } from 'kcopyd';
import { expect } from 'vitest';
import { test } from './support/kcopyd.js';

const RUNS = Number(process.env.KCOPYD_TEST_ARGUMENTS ?? 2_000);
const TYPE = 'ERR_INVALID_ARG_TYPE';
const RANGE = 'ERR_OUT_OF_RANGE';
const NOWHERE = '/nowhere/at/all';

type Verdict = string | undefined;
type Judge = (value: unknown) => Verdict;

/** Numbers near what numbers of sectors must be near, and what is no number at all. */
const numbers = fc.oneof(
  { weight: 6, arbitrary: fc.nat(64) },
  fc.constantFrom(-1, -0, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 2 ** 53 - 1, 2 ** 31, 2 ** 63),
  fc.bigInt({ min: -2n, max: 2n ** 64n }),
  fc.constantFrom(2n ** 53n - 1n, 2n ** 53n, '8', null, true, {}, []),
);
const flags = fc.oneof({ weight: 4, arbitrary: fc.boolean() }, fc.constantFrom(0, 1, 'true', null, {}, undefined));
const devices = fc.oneof(
  { weight: 12, arbitrary: fc.constant(NOWHERE) },
  fc.constantFrom(null, true, {}, [], Symbol.iterator, -1, 0.5, 2 ** 31, 'a\0b', 10n),
);
const stray = fc.constantFrom('Sector', 'counts', 'dev', 'flsh', 'toString', '__proto__x', '');
const strays = fc.oneof({ weight: 12, arbitrary: fc.constant({}) }, fc.dictionary(stray, fc.nat(), { maxKeys: 1 }));

const region = fc
  .tuple(fc.record({ device: devices, sector: numbers, count: numbers }, { requiredKeys: ['device'] }), strays)
  .map(([own, more]) => ({ ...own, ...more }));
const options = fc
  .tuple(fc.record({ ignoreErrors: flags, sequential: flags, flush: flags }, { requiredKeys: [] }), strays)
  .map(([own, more]) => ({ ...own, ...more }));
const notAnObject = fc.constantFrom(null, 1, 'x', [], true);
const often = <T>(usual: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 12, arbitrary: usual as fc.Arbitrary<unknown> }, notAnObject);

// The second opinion: written from the contract, not from src/.

const sectors: Judge = (value) => {
  if (typeof value !== 'number' && typeof value !== 'bigint') return TYPE;
  const whole = typeof value === 'bigint' || Number.isInteger(value);
  return whole && value >= 0 && value <= Number.MAX_SAFE_INTEGER ? undefined : RANGE;
};
const boolean: Judge = (value) => (typeof value === 'boolean' ? undefined : TYPE);
const device: Judge = (value) => {
  if (typeof value === 'number') return Number.isInteger(value) && value >= 0 && value < 2 ** 31 ? undefined : RANGE;
  if (typeof value !== 'string') return TYPE;
  return value.includes('\0') ? RANGE : undefined;
};

/** All that may be said of an object; nothing if it is good. */
function verdicts(value: unknown, shape: Record<string, Judge>): string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [TYPE];
  const found = Object.entries(value).map(([key, property]) => {
    if (!Object.hasOwn(shape, key)) return TYPE;
    return property === undefined ? undefined : shape[key]?.(property);
  });
  return found.filter((verdict) => verdict !== undefined);
}

function regionVerdicts(value: unknown): string[] {
  return verdicts(value, { device, sector: sectors, count: sectors });
}

/** Whether both name a count, and not the same. */
function countsDiffer(from: unknown, to: unknown): boolean {
  const count = (value: unknown) => Object(value).count as number | bigint | undefined;
  const [one, other] = [count(from), count(to)];
  return one !== undefined && other !== undefined && Number(one) !== Number(other);
}

test('P30 random arguments are refused for what is wrong with them, and nothing else is', async ({ client }) => {
  const copier = (await client({ pages: 8 })) as unknown as Record<
    'copy' | 'zero',
    (...args: unknown[]) => Promise<unknown>
  >;
  let accepted = 0;
  const holds = async (from: unknown, to: unknown[], alone: boolean, job: unknown) => {
    const wanted = [...regionVerdicts(from), ...to.flatMap(regionVerdicts)];
    if (to.some((one) => countsDiffer(from, one))) wanted.push(RANGE);
    wanted.push(...verdicts(job, { ignoreErrors: boolean, sequential: boolean, flush: boolean }));
    const error = await copier.copy(from, alone ? to[0] : to, job).then(
      () => expect.fail('a job without a device'),
      (refused: unknown) => refused as KcopydError,
    );
    expect(error).toBeInstanceOf(KcopydError);
    if (wanted.length === 0) {
      accepted++;
      expect(error.code).toBe('ENOENT');
    } else {
      expect(wanted, error.message).toContain(error.code);
    }
  };
  const lists = fc.array(often(region), { minLength: 1, maxLength: 4 });
  const property = fc.asyncProperty(often(region), lists, fc.boolean(), often(options), (from, to, first, job) =>
    // An array is a list of destinations, even if it was meant as one of them.
    holds(from, first ? to.slice(0, 1) : to, first && !Array.isArray(to[0]), job),
  );
  await fc.assert(property, { numRuns: RUNS });
  expect(accepted, 'some are good').toBeGreaterThan(RUNS / 50);
  expect((copier as unknown as KcopydClient).stats.jobs).toBe(0);
});
