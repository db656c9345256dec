// What of test/support the door `npm test` uses itself: clearing away after killed runs, and saying what this machine allows.
import { type Facility, hasExt4, hasLoop, hasMount, hasNbd } from '../test/support/machine.js';

export { sweep } from '../test/support/workshop.js';

/** A line for everything that tests must do without here. */
export async function facilities(): Promise<string[]> {
  const found: Facility[] = await Promise.all([hasLoop(), hasMount(), hasNbd(), hasExt4()]);
  const lines = found.filter((facility) => !facility.available).map(({ reason }) => `tests do without: ${reason}`);
  return lines.length > 0 ? lines : ['tests had loop devices, mounts, ext4 and devices that fail on demand'];
}
