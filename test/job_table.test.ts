// The table of jobs in flight against a Map, and where a Map would be no trial: that places are used again, and given back.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { JobTable } from '../src/job_table.js';

/** Put some; put one and take it at once, so many times; take the one of this number among those that are there, or were. */
const STEP = fc.oneof(
  { weight: 6, arbitrary: fc.record({ put: fc.integer({ min: 1, max: 60 }) }) },
  { weight: 2, arbitrary: fc.record({ pass: fc.integer({ min: 1, max: 600 }) }) },
  { weight: 6, arbitrary: fc.record({ take: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ again: fc.nat() }) },
);
/** Tokens go on beyond what a mask of 32 bits sees. */
const BEFORE = fc.constantFrom(0, 2 ** 31 - 300, 2 ** 32 - 300, 2 ** 52);

test('entries are found by their tokens, each once, and no token comes again', () => {
  fc.assert(
    fc.property(BEFORE, fc.array(STEP, { size: '+2', maxLength: 100 }), (before, steps) => {
      const table = new JobTable<string>(before);
      const model = new Map<number, string>();
      const taken: number[] = [];
      let last = before;
      const put = (): number => {
        const token = table.nextToken();
        expect(token).toBeGreaterThan(last);
        last = token;
        table.put(token, `job ${token}`);
        model.set(token, `job ${token}`);
        return token;
      };
      const take = (token: number): void => {
        expect(table.take(token)).toBe(model.get(token));
        expect(table.take(token)).toBeUndefined();
        model.delete(token);
        taken.push(token);
      };
      for (const step of steps) {
        if ('put' in step) for (let one = 0; one < step.put; one++) put();
        else if ('pass' in step) for (let one = 0; one < step.pass; one++) take(put());
        else if ('again' in step) expect(table.take(taken[step.again % taken.length] ?? before)).toBeUndefined();
        else if (model.size > 0) take([...model.keys()][step.take % model.size]!);
        expect(table.size).toBe(model.size);
      }
      for (const token of [...model.keys()]) take(token);
      expect(table.size).toBe(0);
    }),
  );
});

test('a job that is long under way is found after a million short ones, and a token that was refused is no harm', () => {
  const table = new JobTable<string>();
  const long = [1, 2, 3].map(() => table.nextToken() && table.nextToken());
  for (const token of long) table.put(token, `long ${token}`);
  for (let job = 0; job < 1_000_000; job++) {
    const token = table.nextToken();
    table.put(token, 'short');
    table.take(token);
  }
  expect(long.map((token) => table.take(token))).toEqual(long.map((token) => `long ${token}`));
});

test('a million at once, taken in another order, and then as good as new', () => {
  const table = new JobTable<number>();
  for (const many of [1_000_000, 3]) {
    const tokens = Array.from({ length: many }, (_, at) => {
      const token = table.nextToken();
      table.put(token, at);
      return token;
    });
    expect(table.size).toBe(many);
    let wrong = 0;
    for (let at = many - 1; at >= 0; at--) wrong += table.take(tokens[at]!) === at ? 0 : 1;
    expect(wrong).toBe(0);
    expect(table.size).toBe(0);
  }
});
