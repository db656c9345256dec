// How the tests of the face run: in processes of their own, against the built package by its public door (`import 'kcopyd'`
// resolves through package.json's exports to dist). It builds nothing; `npm test` does that first.
import { defineConfig, type ViteUserConfig } from 'vitest/config';

const config: ViteUserConfig = defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/vm/**'],
    pool: 'forks',
    testTimeout: 60_000,
    hookTimeout: 60_000,
    server: { deps: { external: [/\/dist\//] } },
  },
});

export default config;
