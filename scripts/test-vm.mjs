// The door `npm run test:vm`: boots a Debian kernel in QEMU with the core inside, and tries it on devices that fail as no loop device
// can. docs/TESTING.md says what. It knows nothing of how that is done.
//   npm run test:vm                     every case
//   npm run test:vm -- P18 io_uring     the cases with these words in their names
//   npm run test:vm -- tables seed=7    the differential with other random tables
//   npm run test:vm -- --bench [brd] [delay]     measures the core beside the kernel's own kcopyd instead
import { checkTools, installPackages, root } from './setup.mjs';

checkTools();
installPackages();
// Only now: the packages that this needs may just have been installed.
const { importTypeScript } = await import('./typescript.mjs');
const { testInGuest } = await importTypeScript('test/vm/main.ts');
process.exitCode = await testInGuest(process.argv.slice(2), root);
