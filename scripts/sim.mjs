// The door `npm run sim`: builds the simulator and runs it. docs/TESTING.md says what it does.
//   npm run sim                           a million random jobs
//   npm run sim -- --jobs 10_000_000      so many, from seed 0 on
//   npm run sim -- --seed 7               one seed, written down
//   npm run sim -- --exhaustive           everything that can happen to a canon of small jobs
//   npm run sim -- --canaries             planted bugs, each of which must be found
//   npm run sim -- --plant NAME …         any of these with a bug planted
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const args = process.argv.slice(2);
// Planted bugs are in no other build than this one.
const features = args.some((argument) => argument === '--canaries' || argument === '--plant')
  ? ['--features', 'canary']
  : [];
const cargo = ['run', '--quiet', '--locked', '--profile', 'sim', '-p', 'kcopyd-sim', ...features, '--', ...args];
const { status, signal, error } = spawnSync('cargo', cargo, { cwd: root, stdio: 'inherit' });
if (error) console.error(`kcopyd: cargo could not be started: ${error.message}`);
process.exitCode = signal ? 1 : (status ?? 1);
