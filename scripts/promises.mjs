// Writes, or with --check compares, the third column of docs/PROMISES.md: which tests hold which promise, found by their names.
// It refuses to judge whether a test is any good.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const page = join(root, 'docs', 'PROMISES.md');

/** Every file below a folder with one of these endings. */
function filesBelow(folder, endings) {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && endings.some((ending) => entry.name.endsWith(ending)))
    .map((entry) => relative(root, join(entry.parentPath ?? entry.path, entry.name)))
    .filter((file) => !file.includes('node_modules') && !file.includes('/target/'))
    .sort();
}

/** Promise number → the files with tests that begin with it. How many is not told: that would change with every second commit. */
function testsByPromise() {
  const found = new Map();
  const note = (numbers, file) => {
    for (const number of numbers) {
      found.set(number, (found.get(number) ?? new Set()).add(file));
    }
  };
  for (const file of filesBelow('crates', ['.rs'])) {
    for (const [, numbers] of readFileSync(join(root, file), 'utf8').matchAll(/fn ((?:p\d+_(?:and_)?)+)\w*\(/g)) {
      note(
        [...numbers.matchAll(/p(\d+)/g)].map((match) => Number(match[1])),
        file,
      );
    }
  }
  for (const file of filesBelow('test', ['.ts', '.mjs'])) {
    const names = readFileSync(join(root, file), 'utf8').matchAll(
      /\b(?:it|test|eachSetting)[\w.]*(?:\([^)]*\))?\(\s*['"`](P\d+(?:(?:, | and )P\d+)*)/g,
    );
    for (const [, numbers] of names) {
      note(
        [...numbers.matchAll(/P(\d+)/g)].map((match) => Number(match[1])),
        file,
      );
    }
  }
  return found;
}

const tests = testsByPromise();
const missing = [];
const lines = readFileSync(page, 'utf8')
  .split('\n')
  .map((line) => {
    const row = /^\| P(\d+) \| (.*?) \| [^|]*\|$/.exec(line) ?? /^\| P(\d+) \| (.*?) \|\s*\|$/.exec(line);
    if (!row) return line;
    const files = tests.get(Number(row[1]));
    if (!files) missing.push(`P${row[1]}`);
    const held = files ? [...files].join(', ') : '**nothing**';
    return `| P${row[1]} | ${row[2]} | ${held} |`;
  });
const text = lines.join('\n');

if (process.argv.includes('--check')) {
  const stale = readFileSync(page, 'utf8') !== text;
  if (stale) console.error('docs/PROMISES.md is stale: run `npm run promises` and commit it');
  if (missing.length > 0) console.error(`no test holds ${missing.join(', ')}`);
  process.exitCode = stale || missing.length > 0 ? 1 : 0;
} else {
  writeFileSync(page, text);
  console.log(
    missing.length > 0 ? `written; no test holds ${missing.join(', ')}` : 'written; every promise has a test',
  );
}
