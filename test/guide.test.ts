// Every program in docs/GUIDE.md runs as printed, and prints what stands below it.
import { readdirSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { support } from 'kcopyd';
import { describe, expect } from 'vitest';
import { run } from './support/command.js';
import { inOwnProcess, MIB, test } from './support/kcopyd.js';
import { programs } from './support/machine.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

interface Program {
  readonly heading: string;
  readonly code: string;
  /** What it prints; undefined if nothing stands below it. */
  readonly prints: string | undefined;
}

function programsOf(guide: string): Program[] {
  return guide.split(/^## /m).flatMap((section) => {
    const heading = section.slice(0, section.indexOf('\n'));
    const blocks = section.matchAll(/```js\n(.*?)```(?:\n\n```text\n(.*?)```)?/gs);
    return [...blocks].map(([, code, prints]) => ({ heading, code: code!, prints }));
  });
}

const guide = await readFile(join(ROOT, 'docs', 'GUIDE.md'), 'utf8');
const all = programsOf(guide);
const SECCOMP = all.find(({ code }) => code.includes('SCMP_ACT_ALLOW'));

test('the guide has a page for each thing that its contents name, and no block that is not run', () => {
  const headings = [...guide.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading);
  const contents = [...guide.matchAll(/^- \[(.*?)\]\(#(.*?)\)$/gm)].map(([, title, anchor]) => [title, anchor]);
  const anchor = (heading: string): string =>
    heading
      .toLowerCase()
      .replaceAll(/[^a-z ]/g, '')
      .replaceAll(' ', '-');
  expect(contents).toEqual(headings.map((heading) => [heading, anchor(heading!)]));
  const fences = [...guide.matchAll(/^\s*```(\w+)/gm)].map(([, language]) => language);
  const run = all.flatMap(({ prints }) => (prints === undefined ? ['js'] : ['js', 'text']));
  expect(fences).toEqual(run);
  expect(new Set(all.map(({ heading }) => heading))).toEqual(new Set(headings));
});

test('the guide has every code that the source has', async () => {
  const files = ['src', 'crates/kcopyd/src', 'crates/kcopyd-node/src'].flatMap((directory) => {
    const found = readdirSync(join(ROOT, directory), { recursive: true, encoding: 'utf8' });
    return found.filter((name) => /\.(ts|rs)$/.test(name)).map((name) => join(ROOT, directory, name));
  });
  const texts = await Promise.all(files.map((path) => readFile(path, 'utf8')));
  const codes = [
    ...new Set(texts.flatMap((text) => [...text.matchAll(/['"](ERR_KCOPYD_[A-Z_]+)['"]/g)].map(([, code]) => code!))),
  ];
  expect(codes.length).toBeGreaterThan(10);
  const missing = codes.filter((code) => !guide.includes(`\`${code}\``));
  expect(missing).toEqual([]);
});

describe('the programs of the guide', () => {
  test.for(all.map((program, place) => [`${program.heading} (${place + 1})`, program] as const))(
    '%s',
    async ([, { code, prints = '' }], { workshop, skip }) => {
      if (prints.includes('io_uring') && support().engine !== 'io_uring') skip(support().reason);
      // Inside the checkout, where `import 'kcopyd'` finds this package.
      await mkdir(join(ROOT, 'target'), { recursive: true });
      const directory = await mkdtemp(join(ROOT, 'target', 'guide-'));
      try {
        await workshop.file({ bytes: 8 * MIB, seed: 'disk', path: join(directory, 'disk.img') });
        await writeFile(join(directory, 'default.json'), '{ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [] }');
        if (code.includes('small/')) await symlink(await workshop.tmpfs(MIB), join(directory, 'small'));
        await writeFile(join(directory, 'program.mjs'), code);
        const ended = await run(process.execPath, ['program.mjs'], { cwd: directory });
        expect(ended).toEqual({ code: 0, signal: null, stdout: prints, stderr: '' });
      } finally {
        await rm(directory, { recursive: true, force: true });
      }
    },
  );
});

test('P26 the system calls that the guide allows are those that io_uring takes', async ({ workshop, skip }) => {
  const strace = programs('strace');
  if (!strace.available) skip(strace.reason);
  if (support().engine !== 'io_uring') skip(support().reason);
  const args = { source: await workshop.file({ bytes: MIB }), destination: await workshop.file({ bytes: 0 }) };
  const script = `
    const client = await KcopydClient.create({ engine: 'io_uring' });
    await client.copy({ device: args.source }, { device: args.destination }, { flush: true });
    await client.close();`;
  const log = workshop.path('.strace');
  const wrap = ['strace', '-f', '-qq', '-o', log, '-e', 'trace=/io_uring'];
  expect(await inOwnProcess(script, args, { wrap })).toMatchObject({ code: 0, stderr: '' });
  const used = new Set([...(await readFile(log, 'utf8')).matchAll(/(io_uring_\w+)\(/g)].map(([, name]) => name!));
  const [, names = ''] = /names: \[(.*?)\]/.exec(SECCOMP?.code ?? '') ?? [];
  expect([...used].sort()).toEqual([...names.matchAll(/'(\w+)'/g)].map(([, name]) => name!).sort());
});
