// The door `npm run pack`: makes the packages of a release from the binaries that are in npm/binaries (from `npm run build:all`, or
// from other machines), and looks at them as whoever installs them will find them. What is in npm/tarballs afterwards may be published.
//   npm run pack                     every platform
//   npm run pack -- linux-x64-gnu    the platforms that are named; `host` is this machine's own
import { installPackages, root } from './setup.mjs';

installPackages();
// Only now: the packages that this needs may just have been installed.
const { importTypeScript } = await import('./typescript.mjs');
const { packAll } = await importTypeScript('scripts/pack/pack.ts');
try {
  await packAll(root.replace(/\/$/, ''), process.argv.slice(2));
} catch (error) {
  console.error(`kcopyd: ${error.message}`);
  process.exitCode = 1;
}
