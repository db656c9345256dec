// Runs TypeScript of the project outside the test runner, on every Node that the project supports: one file and what it imports
// are bundled into target/, and imported from there. Packages, kcopyd itself among them, stay outside the bundle.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { root } from './setup.mjs';

/** What a TypeScript file exports. */
export async function importTypeScript(path) {
  return import(pathToFileURL(await bundleTypeScript(path)).href);
}

/** The path of a script that does what a TypeScript file does. */
export async function bundleTypeScript(path) {
  // Inside the checkout, so that `import 'kcopyd'` finds this package; not in dist/, which is what gets published.
  const outfile = join(root, 'target', 'scripts', path.replace(/\.ts$/, '.mjs'));
  await build({
    absWorkingDir: root,
    entryPoints: [path],
    outfile,
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    sourcemap: 'inline',
    logLevel: 'warning',
  });
  return outfile;
}
