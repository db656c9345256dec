// Writes what was measured: everything as JSON for programs that want to look closer, a page of Markdown and a drawing for
// people. It judges nothing.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { formatBytes } from '../cli/format.js';
import type { Case, Goal, Result } from './case.js';
import type { Machine } from './machine.js';
import type { Summary } from './numbers.js';
import { plot } from './plot.js';
import { disturbed } from './rounds.js';

/** How each figure is called and written. */
const FIGURES: Readonly<Record<string, readonly [title: string, text: (value: number) => string]>> = {
  bytesPerSecond: ['MB/s', (value) => (value / 1e6).toFixed(value < 100e6 ? 1 : 0)],
  cpuSecondsPerGib: ['CPU s/GiB', (value) => value.toFixed(3)],
  machineCpuSecondsPerGib: ['machine CPU s/GiB', (value) => value.toFixed(2)],
  residentBytes: ['resident', formatBytes],
  residentGrowthBytes: ['growth', (value) => `${(value / 2 ** 20).toFixed(2)} MiB`],
  pageCacheGrowthBytes: ['page cache', (value) => `${(value / 2 ** 20).toFixed(0)} MiB`],
  submissionsPerGib: ['submissions/GiB', (value) => value.toFixed(0)],
  sourceReads: ['source read', (value) => `${value.toFixed(2)} ×`],
  loopDelayP99Ms: ['loop p99 ms', (value) => value.toFixed(2)],
  slowBytesPerSecond: ['slow job MB/s', (value) => (value / 1e6).toFixed(1)],
  seconds: ['s', (value) => value.toFixed(3)],
  startUpSeconds: ['start-up s', (value) => value.toFixed(3)],
  jobsPerSecond: ['jobs/s', (value) => Math.round(value).toString()],
  cpuMicrosecondsPerJob: ['CPU µs/job', (value) => value.toFixed(2)],
  jobsPerSubmission: ['jobs/submission', (value) => value.toFixed(1)],
  residentBytesPerQueuedJob: ['bytes/queued job', (value) => value.toFixed(0)],
  nanosecondsPerSubJob: ['ns/sub-job', (value) => value.toFixed(0)],
};
/** Figures whose spread is shown: what a case is about. */
const SPREAD = ['bytesPerSecond', 'jobsPerSecond', 'nanosecondsPerSubJob'];

/** Goals as lines of text. */
export function goalLines(goals: readonly Goal[]): string[] {
  return goals.map(
    ({ text, wanted, reached, met }) => `${met ? 'met   ' : 'missed'} ${text}: ${number(reached)} (goal: ${wanted})`,
  );
}

/** The table of a case, as rows of cells; the first row is the head. */
export function tableOf({ rows, columns }: Result): string[][] {
  const used = columns.filter((column) => rows.some(({ summary }) => summary[column]));
  const head = ['', ...used.map((column) => FIGURES[column]?.[0] ?? column)];
  return [head, ...rows.map(({ name, summary }) => [name, ...used.map((column) => cell(column, summary[column]))])];
}

function cell(column: string, summary: Summary | undefined): string {
  if (!summary) return '';
  const text = FIGURES[column]?.[1] ?? String;
  const { median, min, max } = summary;
  return SPREAD.includes(column) ? `${text(median)} (${text(min)}–${text(max)})` : text(median);
}

function number(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(2);
}

/** Writes `NAME.json`, `NAME.md` and, where there is something to draw, `NAME.svg`; the paths. */
export async function write(
  directory: string,
  { name, about }: Case,
  result: Result,
  machine: Machine,
): Promise<string[]> {
  await mkdir(directory, { recursive: true });
  const [json, markdown] = [join(directory, `${name}.json`), join(directory, `${name}.md`)];
  await writeFile(json, `${JSON.stringify({ name, about, machine, ...result }, null, 1)}\n`);
  const drawing = plot(`${name}: ${about}`, result.rows, result.columns);
  const svg = join(directory, `${name}.svg`);
  if (drawing !== undefined) await writeFile(svg, drawing);
  await writeFile(markdown, page(name, about, result, machine, drawing === undefined ? [] : [`![](${name}.svg)`, '']));
  return [json, markdown, ...(drawing === undefined ? [] : [svg])];
}

function whatOthersDid({ rows }: Result): string {
  const counts = disturbed(rows);
  if (counts.disturbed === 0) return '';
  return `; others kept the machine busy in ${counts.disturbed} of all ${counts.runs} runs, left out where three others remain`;
}

function page(name: string, about: string, result: Result, machine: Machine, drawing: readonly string[]): string {
  const [head = [], ...body] = tableOf(result);
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const runs = Math.max(...result.rows.map(({ samples }) => samples.length));
  const details = result.rows.filter(({ detail }) => detail !== '').map(({ name, detail }) => `${name}: ${detail}`);
  return [
    `# ${name}: ${about}`,
    '',
    `Written by \`npm run bench -- ${name}\`; what it means and how it was measured: ../BENCHMARKS.md.`,
    '',
    `- ${machine.processors} × ${machine.processor}, ${formatBytes(machine.memoryBytes)}, kernel ${machine.kernel}, ${machine.distribution}, Node ${machine.node}, commit ${machine.commit}`,
    `- median of ${runs} interleaved runs, (least–most)${whatOthersDid(result)}`,
    ...result.notes.map((note) => `- ${note}`),
    '',
    ...drawing,
    line(head),
    line(head.map((_, column) => (column === 0 ? '---' : '---:'))),
    ...body.map(line),
    '',
    ...(result.goals.length > 0 ? ['| | goal | reached |', '| --- | ---: | ---: |'] : []),
    ...result.goals.map(({ text, wanted, reached, met }) =>
      line([text, String(wanted), `${number(reached)}${met ? '' : ' (missed)'}`]),
    ),
    '',
    ...details.map((detail) => `- ${detail}`),
    '',
  ].join('\n');
}
