// The README's example runs as printed.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { output } from './support/command.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

test('the example in the README runs as printed, and does what it says', async () => {
  const readme = await readFile(join(ROOT, 'README.md'), 'utf8');
  const [, example = ''] = /```js\n(.*?)```/s.exec(readme) ?? [];
  // Inside the checkout, where `import 'kcopyd'` finds this package.
  const directory = await mkdtemp(join(ROOT, 'target', 'readme-'));
  try {
    await writeFile(join(directory, 'example.mjs'), example);
    const printed = await output(process.execPath, ['example.mjs'], { cwd: directory, timeoutMs: 60_000 });
    expect(printed).toMatch(/^\d+ bytes in both after [\d.]+ ms, by (io_uring|threads)$/);
    const source = await readFile(process.execPath);
    for (const name of ['one.img', 'two.img']) {
      expect(source.equals(await readFile(join(directory, name)))).toBe(true);
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
