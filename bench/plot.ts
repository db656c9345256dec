// Draws what a case came to: for each contender the median as a bar, the spread as a line, every run as a dot. It judges nothing,
// and knows only what is drawn of which figure.
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import type { Role, Row } from './rounds.js';

/** A figure that is drawn: how it is called, and what its values are divided by. */
interface Drawn {
  readonly figure: string;
  readonly label: string;
  readonly unit: number;
}

/** What a case is about is the first of these that its rows have. */
const DRAWN: readonly Drawn[] = [
  { figure: 'jobsPerSecond', label: 'thousands of jobs a second', unit: 1e3 },
  { figure: 'bytesPerSecond', label: 'MB/s', unit: 1e6 },
  { figure: 'nanosecondsPerSubJob', label: 'nanoseconds for a sub-job', unit: 1 },
];

const COLOURS: Readonly<Record<Role, string>> = {
  kcopyd: '#1f6f54',
  variant: '#7fb59f',
  peer: '#9aa0a6',
  ceiling: '#e3e5e8',
};
const WORDS: Readonly<Record<Role, string>> = {
  kcopyd: '',
  variant: ' (variant)',
  peer: '',
  ceiling: ' (ceiling)',
};
const WIDTH = 760;
const BAR_HEIGHT = 26;
const MARGINS = { marginTop: 40, marginBottom: 40, marginRight: 70 };
const CHARACTER_WIDTH = 6.6;

/** An SVG document; `undefined` where the rows have nothing to draw. `columns` are the figures that the case is about. */
export function plot(title: string, rows: readonly Row[], columns: readonly string[]): string | undefined {
  const drawn = DRAWN.find(({ figure }) => columns.includes(figure) && rows.some(({ summary }) => summary[figure]));
  if (!drawn) return undefined;
  const shown = rows.filter(({ summary }) => summary[drawn.figure]);
  return draw(title, shown, drawn);
}

function draw(title: string, rows: readonly Row[], { figure, label, unit }: Drawn): string {
  const name = (row: Row): string => row.name + WORDS[row.role];
  const bars = rows.map((row) => {
    const { median, min, max } = row.summary[figure]!;
    return { name: name(row), fill: COLOURS[row.role], median: median / unit, min: min / unit, max: max / unit };
  });
  const dots = rows.flatMap((row) => row.samples.map((run) => ({ name: name(row), value: run[figure]! / unit })));
  const marginLeft = 16 + CHARACTER_WIDTH * Math.max(...bars.map((bar) => bar.name.length));
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const svg = Plot.plot({
    document,
    width: WIDTH,
    height: MARGINS.marginTop + MARGINS.marginBottom + BAR_HEIGHT * rows.length,
    ...MARGINS,
    marginLeft,
    style: { background: 'white', color: '#202124', fontFamily: 'sans-serif', fontSize: '12px' },
    x: { label, grid: true, zero: true, nice: true },
    y: { label: null, domain: bars.map((bar) => bar.name), padding: 0.25 },
    marks: [
      Plot.barX(bars, { y: 'name', x: 'median', fill: 'fill', stroke: '#9aa0a6', strokeWidth: 0.5 }),
      Plot.ruleY(bars, { y: 'name', x1: 'min', x2: 'max', stroke: '#202124' }),
      Plot.dot(dots, { y: 'name', x: 'value', r: 2, fill: '#202124', fillOpacity: 0.5 }),
      Plot.text(bars, { y: 'name', x: 'max', text: (bar) => shortNumber(bar.median), dx: 8, textAnchor: 'start' }),
      Plot.ruleX([0]),
      Plot.text([title], { frameAnchor: 'top-left', dx: -marginLeft + 12, dy: -26, fontSize: 14, fontWeight: 'bold' }),
    ],
  });
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  return `${svg.outerHTML}\n`;
}

function shortNumber(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}
