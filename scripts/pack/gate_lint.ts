// The opinion of others on a package: publint on its package.json, and are-the-types-wrong on what TypeScript makes of it.
import { join } from 'node:path';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { run } from '../../test/support/command.js';

const TYPES_MS = 120_000;

/** What they object to. */
export async function lint(
  root: string,
  { folder, tarball }: { readonly folder: string; readonly tarball: string },
  hasTypes: boolean,
): Promise<string[]> {
  const { messages, pkg } = await publint({ pkgDir: folder, strict: true, pack: false });
  const objections = messages.map(
    (message) => `publint: ${formatMessage(message, pkg, { color: false }) ?? message.code}`,
  );
  return hasTypes ? [...objections, ...(await typesWrong(root, tarball))] : objections;
}

async function typesWrong(root: string, tarball: string): Promise<string[]> {
  const attw = join(root, 'node_modules/@arethetypeswrong/cli/dist/index.js');
  // ES modules only: since 20.19 and 22.12 require() loads them, and a second build would make two classes of every one.
  const args = [attw, tarball, '--profile', 'esm-only', '--no-emoji', '--no-color', '--format', 'ascii'];
  const { code, stdout, stderr } = await run(process.execPath, args, { timeoutMs: TYPES_MS });
  return code === 0 ? [] : [`are the types wrong: ${(stdout + stderr).trim()}`];
}
