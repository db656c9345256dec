// What this machine can run, told without failing. It refuses to make anything.
import { release } from 'node:os';
import type { Support } from '../index.js';
import { loadBinding, platform } from './loader.js';
import { isNativeError } from './native.js';

/** `support`. */
export function support(): Support {
  const binding = loadBinding();
  if (!isNativeError(binding)) return binding.support();
  return { platform: platform(), engine: null, reason: binding.message, kernel: release() };
}
