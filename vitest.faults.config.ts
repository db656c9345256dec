// How the tests of real faults run, `npm run test:faults`: as the other tests of the face do, but only these, and the others
// without them.
import { defineConfig, mergeConfig, type ViteUserConfig } from 'vitest/config';
import ordinary from './vitest.config.js';

const { include: _others, exclude: _these, ...test } = ordinary.test ?? {};
const config: ViteUserConfig = mergeConfig(
  { ...ordinary, test },
  defineConfig({ test: { include: ['test/faults/**/*.test.ts'], slowTestThreshold: 5_000 } }),
);

export default config;
