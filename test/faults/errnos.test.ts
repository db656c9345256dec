// Whatever errno a device answers with, it is an error with that errno: there is no list of them. On files, where a loop device
// does not make EIO of everything.

import { readFile } from 'node:fs/promises';
import { expect } from 'vitest';
import { onEachEngine, rejection, test } from '../support/kcopyd.js';

/** Their numbers are the kernel's; Node does not know all of them. */
const CODES = [
  ['EPERM', 1],
  ['EIO', 5],
  ['ENOMEM', 12],
  ['EINVAL', 22],
  ['ENOSPC', 28],
  ['ESHUTDOWN', 108],
] as const;
const COUNT = 128;

onEachEngine((engine) => {
  test.for(CODES)('P17 every write is answered with %s', async ([code, errno], { workshop, client }) => {
    const source = await workshop.file({ bytes: COUNT * 512, seed: 'source' });
    const file = await workshop.file({ bytes: COUNT * 512, seed: 'before' });
    const good = await workshop.file({ bytes: 0 });
    const faulty = await workshop.faulty({ kind: 'write-errors', file, code });
    const copier = await client({ engine, subJobSectors: 32 });
    const to = [{ device: good }, { device: faulty.path }];
    const { outcome } = await rejection(copier.copy({ device: source }, to, { ignoreErrors: true }));
    expect(outcome).toMatchObject({
      readErr: 0,
      writeErr: 0b10,
      destinations: [{ ok: true }, { ok: false, sectors: 0 }],
    });
    expect(outcome!.failures).toEqual([{ op: 'write', destination: 1, sector: 0, count: COUNT, code, errno }]);
    expect(await readFile(good)).toEqual(await readFile(source));
    faulty.heal();
    expect((await copier.copy({ device: source }, to)).sectors).toBe(COUNT);
    expect(await readFile(file)).toEqual(await readFile(source));
  });

  test.for(CODES)('P17 every read is answered with %s', async ([code, errno], { workshop, client }) => {
    const file = await workshop.file({ bytes: COUNT * 512, seed: 'source' });
    const good = await workshop.file({ bytes: 0 });
    const faulty = await workshop.faulty({ kind: 'read-errors', file, code });
    const copier = await client({ engine, subJobSectors: 32 });
    const { outcome } = await rejection(copier.copy({ device: faulty.path }, { device: good }, { ignoreErrors: true }));
    expect(outcome).toMatchObject({ readErr: errno, writeErr: 0, sectors: 0 });
    expect(outcome!.failures).toEqual([{ op: 'read', destination: null, sector: 0, count: COUNT, code, errno }]);
    faulty.heal();
    expect((await copier.copy({ device: faulty.path }, { device: good })).sectors).toBe(COUNT);
    expect(await readFile(good)).toEqual(await readFile(file));
  });
});
