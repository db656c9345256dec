// The door `npm run pack:all`: the rehearsal of a release, on loopback. Builds and packs every platform, publishes to a registry of
// its own, installs from it as users do, and copies with what was installed. It knows nothing of how that is done.
//   npm run pack:all              everything; some half an hour
//   npm run pack:all -- --built   with the binaries that are in npm/binaries
//   npm run pack:all -- --short   what CI has time for: this machine's binary, on the Node that runs this
import { build, checkTools, installPackages, root } from './setup.mjs';

const short = process.argv.includes('--short');
checkTools();
installPackages();
build(short ? undefined : ['build:ts']);
// Only now: the packages that this needs may just have been installed.
const { importTypeScript } = await import('./typescript.mjs');
const { rehearse } = await importTypeScript('scripts/pack/rehearsal.ts');
process.exitCode = await rehearse(root.replace(/\/$/, ''), { short, built: process.argv.includes('--built') });
