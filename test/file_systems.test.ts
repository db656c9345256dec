// Files on the file systems that people have: which of them grant direct I/O, and that every one holds the same bytes.
import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Device } from 'kcopyd';
import { expect } from 'vitest';
import { output } from './support/command.js';
import { expectBytes, MIB, onEachEngine, SECTOR, test } from './support/kcopyd.js';
import { programs } from './support/machine.js';
import { randomBytes } from './support/random.js';
import type { Workshop } from './support/workshop.js';

/** How each is made, and how large it has to be; `direct` is what this machine's kernel grants. */
const FILE_SYSTEMS = {
  ext4: { make: ['mkfs.ext4', '-q', '-F'], bytes: 32 * MIB, direct: true },
  xfs: { make: ['mkfs.xfs', '-q', '-f'], bytes: 320 * MIB, direct: true },
  btrfs: { make: ['mkfs.btrfs', '-q', '-f'], bytes: 128 * MIB, direct: true },
} as const;

type Name = keyof typeof FILE_SYSTEMS | 'tmpfs';

async function directoryOn(name: Name, workshop: Workshop, skip: (why: string) => void): Promise<string> {
  if (name === 'tmpfs') return workshop.tmpfs(32 * MIB);
  const { make, bytes } = FILE_SYSTEMS[name];
  const tools = programs(make[0]);
  if (!tools.available) skip(tools.reason);
  const { path } = await workshop.loop({ bytes });
  await output(make[0], [...make.slice(1), path]);
  try {
    return await workshop.mount(path, '-t', name);
  } catch (error) {
    skip(`this kernel mounts no ${name}: ${String(error)}`);
    throw error;
  }
}

onEachEngine((engine) => {
  test.for(['ext4', 'xfs', 'btrfs', 'tmpfs'] as const)(
    'P9 and P26 a file on %s is copied from any sector to any sector, the direct way as far as it goes',
    async (name, { workshop, client, skip }) => {
      const directory = await directoryOn(name, workshop, skip);
      const bytes = randomBytes('source', 3 * MIB + 777);
      const [from, to] = [join(directory, 'from'), join(directory, 'to')];
      await writeFile(from, bytes);
      await writeFile(to, Buffer.alloc(4 * MIB, 0xa5));
      await using source = await Device.open(from);
      await using destination = await Device.open(to, { access: 'write' });
      expect(source.directReason).not.toBe('');
      if (name !== 'tmpfs') expect(source.direct).toBe(FILE_SYSTEMS[name].direct);
      const copier = await client({ engine, subJobSectors: 64 });
      const held = Buffer.alloc(4 * MIB, 0xa5);
      // At the same phase, at another, one sector, an odd tail, and all of it.
      for (const [sector, at, count] of [
        [8, 16, 800],
        [3, 11, 801],
        [5, 2000, 300],
        [17, 3000, 1],
        [5000, 4000, undefined],
        [0, 0, undefined],
      ] as const) {
        const region = count === undefined ? { sector } : { sector, count };
        const outcome = await copier.copy(
          { device: source, ...region },
          { device: destination, sector: at },
          { flush: true },
        );
        const end = count === undefined ? bytes.length : (sector + count) * SECTOR;
        expect(outcome.bytes).toBe(end - sector * SECTOR);
        bytes.copy(held, at * SECTOR, sector * SECTOR, end);
        expectBytes(await readFile(to), held, `${name}, sector ${sector} to ${at}`);
      }
      // What is in the page cache and what is on the disk are the same.
      await source.close();
      await destination.close();
      const handle = await open(to);
      await handle.sync();
      await handle.close();
      if (name !== 'tmpfs') await output('sh', ['-c', 'echo 1 > /proc/sys/vm/drop_caches']);
      expectBytes(await readFile(to), held, `${name}, read again`);
    },
  );
});
