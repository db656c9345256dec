// The `test` of all tests of the face: each gets a workshop of its own, cleared away after it, and a test that asks its
// workshop for what this machine does not allow is skipped with the reason.
import { test as base, type TestAPI } from 'vitest';
import { Workshop } from './workshop.js';

export interface Fixtures {
  /** A place to make files, loop devices and faulty devices in. */
  workshop: Workshop;
}

export const test: TestAPI<Fixtures> = base.extend<Fixtures>({
  workshop: async ({ skip }, use) => {
    const workshop = new Workshop({ unavailable: (reason) => skip(reason) });
    try {
      await use(workshop);
    } finally {
      await workshop.dispose();
    }
  },
});
