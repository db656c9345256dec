// The table of jobs in flight against a Map, and where a Map would be no trial: that places are used again, and given back.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { JobTable } from '../src/job_table.js';

/** `put` or `take` the entry of this number among those that are there. */
const STEPS = fc.array(fc.oneof({ weight: 3, arbitrary: fc.constant(-1) }, fc.nat()), { size: '+2', maxLength: 3000 });

test('entries are found by their tokens, each once, and no token comes again', () => {
  fc.assert(
    fc.property(STEPS, (steps) => {
      const table = new JobTable<number>();
      const model = new Map<number, number>();
      let last = 0;
      for (const step of steps) {
        if (step === -1 || model.size === 0) {
          const token = table.nextToken();
          expect(token).toBeGreaterThan(last);
          last = token;
          table.put(token, token * 2);
          model.set(token, token * 2);
        } else {
          const [token, entry] = [...model][step % model.size]!;
          expect(table.take(token)).toBe(entry);
          expect(table.take(token)).toBeUndefined();
          model.delete(token);
        }
        expect(table.size).toBe(model.size);
      }
      for (const [token, entry] of model) expect(table.take(token)).toBe(entry);
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
