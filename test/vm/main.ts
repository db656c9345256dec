// The guest's laboratory from outside: gets kernel, tools and program together, boots them, and counts what the guest reports. It
// knows no case by name.
import { join } from 'node:path';
import { bootGuest } from './boot.js';
import { buildImage } from './image.js';
import { debian, NotHere } from './packages.js';
import { buildProgram } from './program.js';
import { Tally } from './tally.js';

const MEASURE = '--bench';

/** Runs the cases whose names contain all these words, or measures; the exit code. */
export async function testInGuest(args: readonly string[], root: string): Promise<number> {
  const began = Date.now();
  const directory = join(root, 'target', 'vm');
  try {
    const words = args.filter((word) => word !== MEASURE);
    // Tests run with every assertion, measurements as what is installed.
    const [profile, what] = words.length < args.length ? ['release', 'bench'] : ['sim', 'suite'];
    const [kernel, program] = [await debian(directory), await buildProgram(root, directory, profile)];
    const image = await buildImage(directory, kernel, program, [what, ...words]);
    const tally = new Tally();
    const ended = await bootGuest({ directory, kernel: kernel.image, image, onLine: (line) => tally.take(line) });
    return tally.close(ended, (Date.now() - began) / 1000) ? 0 : 1;
  } catch (error) {
    if (!(error instanceof NotHere)) throw error;
    // Nothing was tried, and that is said: a machine that cannot run a guest is not a failure of kcopyd.
    console.log(`kcopyd: the guest was skipped: ${error.message}`);
    return 0;
  }
}
