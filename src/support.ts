// What this machine can run, told without failing. It refuses to make anything.
import { release } from 'node:os';
import type { Support } from '../index.js';
import { isNativeError, loadBinding } from './native.js';

/** `support`. */
export function support(): Support {
  const binding = loadBinding();
  if (!isNativeError(binding)) return binding.support();
  const platform = `${process.platform}-${process.arch}`;
  return { platform, engine: null, reason: binding.message, kernel: release() };
}
