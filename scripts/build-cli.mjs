// Bundles cli/ and the libraries it uses into the one file dist/cli/kcopyd.js, so that the installed package has no
// dependencies. The face stays outside: the command uses the same ../index.js that every caller imports.
//   node scripts/build-cli.mjs [DIRECTORY]   somewhere else than in dist
import { chmodSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const outfile = join(resolve(root, process.argv[2] ?? 'dist'), 'cli', 'kcopyd.js');

/** Bundles it, with further options of esbuild's; what esbuild says. */
export function bundle(options) {
  return build({
    absWorkingDir: root,
    entryPoints: ['cli/kcopyd.ts'],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    external: ['../index.js'],
    legalComments: 'inline',
    // The bundled libraries are CommonJS and call require() for Node's own modules; the name must not meet one of ours.
    banner: {
      js: "import { createRequire as requireForBundle } from 'node:module';\nconst require = requireForBundle(import.meta.url);",
    },
    ...options,
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await bundle({});
  chmodSync(outfile, 0o755);
}
