// The door `npm run build:all`: builds the binary of every platform into npm/binaries, on any x64 or arm64 Debian. It installs the
// compilers that this needs, or says what to install. It knows nothing of how that is done.
//   npm run build:all                       every platform
//   npm run build:all -- linux-arm64-musl   the platforms that are named; `host` is this machine's own
import { installPackages, root } from './setup.mjs';

installPackages();
// Only now: the packages that this needs may just have been installed.
const { importTypeScript } = await import('./typescript.mjs');
const { buildAll } = await importTypeScript('scripts/pack/build.ts');
try {
  await buildAll(root.replace(/\/$/, ''), process.argv.slice(2));
} catch (error) {
  console.error(`kcopyd: ${error.message}`);
  process.exitCode = 1;
}
