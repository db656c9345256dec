// The door `npm run bench`: sets everything up, then runs bench/main.ts. It knows nothing of what is measured.
import { root, setUp } from './setup.mjs';

setUp();
// Only now: the packages that this needs may just have been installed.
const { bundleTypeScript, importTypeScript } = await import('./typescript.mjs');
const { bench } = await importTypeScript('bench/main.ts');
process.exitCode = await bench(process.argv.slice(2), root, await bundleTypeScript('bench/subject.ts'));
