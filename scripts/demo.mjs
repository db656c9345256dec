// The door `npm run demo`: sets everything up on a fresh machine, then runs demo/main.ts. It knows nothing of the demo itself.
import { root, setUp } from './setup.mjs';

setUp();
// Only now: the packages that this needs may just have been installed.
const { importTypeScript } = await import('./typescript.mjs');
const { demo } = await importTypeScript('scripts/demo/main.ts');
process.exitCode = await demo(root);
