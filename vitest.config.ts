// How the tests of the face run: in processes of their own, against the built package by its public door (`import 'kcopyd'`
// resolves through package.json's exports to dist). It builds nothing; `npm test` does that first.
import { defineConfig, type ViteUserConfig } from 'vitest/config';

// vitest 5 prints failures with Map.groupBy, which Node 20 does not have: without it a failing test shows no reason there.
const map = Map as { groupBy?: unknown };
map.groupBy ??= <K, V>(items: Iterable<V>, keyOf: (item: V) => K): Map<K, V[]> => {
  const groups = new Map<K, V[]>();
  for (const item of items) {
    const key = keyOf(item);
    groups.set(key, [...(groups.get(key) ?? []), item]);
  }
  return groups;
};

const config: ViteUserConfig = defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/vm/**', 'test/faults/**', 'test/memory/**'],
    pool: 'forks',
    reporters: ['default', './test/support/skips.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    server: { deps: { external: [/\/dist\//] } },
  },
});

export default config;
