// How the tests under a sanitizer and the leak run go, `npm run test:memory`: as the other tests of the face do, but slower, and
// with nothing preloaded into the programs that they start.
import { defineConfig, mergeConfig, type ViteUserConfig } from 'vitest/config';
import ordinary from './vitest.config.js';

const { include: _others, exclude: _these, ...test } = ordinary.test ?? {};
const config: ViteUserConfig = mergeConfig(
  { ...ordinary, test },
  defineConfig({
    test: {
      include: ['test/*.test.ts', 'test/memory/*.test.ts'],
      setupFiles: ['test/memory/preload.ts'],
      testTimeout: 600_000,
    },
  }),
);

export default config;
