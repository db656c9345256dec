// The command's words, which are pure: how numbers read, what a refusal says, how an outcome is told.
import type { Failure, Outcome } from 'kcopyd';
import { describe, expect, test } from 'vitest';
import { parse, wholeNumber } from '../cli/arguments.js';
import { type Asked, explain } from '../cli/explain.js';
import { errnoText, formatBytes, formatDuration, formatRate, formatSectors, table } from '../cli/format.js';
import { outcomeLines, type Plan, verdict } from '../cli/report.js';

describe('numbers', () => {
  test.for([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1536, '1.5 KiB'],
    [1024 * 1024 - 1, '1.0 MiB'],
    [16 * 2 ** 20, '16.0 MiB'],
    [2 ** 53, '8.0 PiB'],
  ] as const)('%i bytes are %s', ([bytes, text]) => expect(formatBytes(bytes)).toBe(text));

  test.for([
    [0, '0.00 s'],
    [450, '0.45 s'],
    [12_340, '12.3 s'],
    [59_940, '59.9 s'],
    [59_960, '1 min 00 s'],
    [245_000, '4 min 05 s'],
    [3_599_900, '1 h 00 min'],
    [7_380_000, '2 h 03 min'],
  ] as const)('%i ms are %s', ([ms, text]) => expect(formatDuration(ms)).toBe(text));

  test('sectors are told in both units, and one sector is one', () => {
    expect(formatSectors(32768)).toBe('16.0 MiB (32768 sectors)');
    expect(formatSectors(1)).toBe('512 B (1 sector)');
    expect(formatRate(1.9e9)).toBe('1.8 GiB/s');
  });

  test('an errno is in the words of the system', () => {
    expect(errnoText(28)).toBe('no space left on device');
    expect(errnoText(500)).toBe('error 500');
  });

  test('columns are as wide as their widest cell', () => {
    expect(
      table([
        ['a', 'b', 'c'],
        ['long', 'x', ''],
      ]),
    ).toEqual(['a     b  c', 'long  x']);
  });
});

describe('arguments', () => {
  test.for(['', '-1', '1.5', '1e3', '0x10', ' 1', '9007199254740992', 'many'])('%j is no number of sectors', (text) => {
    expect(() => wholeNumber(text)).toThrow('whole number');
  });

  test('the largest sector number is taken, and zero', () => {
    expect([wholeNumber('9007199254740991'), wholeNumber('0')]).toEqual([Number.MAX_SAFE_INTEGER, 0]);
  });

  test('what is not given has its default', () => {
    expect(parse(['copy', 'a', 'b', 'c'])).toEqual({
      command: 'copy',
      source: 'a',
      destinations: ['b', 'c'],
      sector: 0,
      destinationSector: 0,
      engine: 'auto',
      flush: true,
      ignoreErrors: false,
      create: false,
      json: false,
    });
    expect(parse(['info', 'a'])).toEqual({ command: 'info', devices: ['a'], json: false });
  });
});

const PLAN: Plan = {
  source: '/dev/a',
  destinations: ['/dev/b', '/dev/c'],
  flush: true,
  engine: { kind: 'io_uring', reason: 'it runs here', registeredBuffers: true },
};

const SPACE: Failure = { op: 'write', destination: 1, sector: 2048, count: 8, code: 'ENOSPC', errno: 28 };

function outcome(changes: Partial<Outcome>): Outcome {
  const destinations = [
    { sectors: 4096, ok: true },
    { sectors: 4096, ok: true },
  ];
  const base = { sectors: 4096, bytes: 4096 * 512, readErr: 0, writeErr: 0, failures: [], failuresOmitted: 0 };
  return { ...base, destinations, durationMs: 500, ...changes };
}

describe('what a copy came to', () => {
  test('a full success says so, with speed and engine', () => {
    expect(outcomeLines(PLAN, { outcome: outcome({}), aborted: false })).toEqual([
      'destination  holds                   result',
      '/dev/b       2.0 MiB (4096 sectors)  complete, flushed',
      '/dev/c       2.0 MiB (4096 sectors)  complete, flushed',
      '2.0 MiB copied in 0.50 s, 4.0 MiB/s; engine io_uring (it runs here)',
    ]);
    expect(verdict({ ...PLAN, flush: false }, { outcome: outcome({}), aborted: false }, 0)).toBe(
      'complete, not flushed',
    );
  });

  test('each destination says why it is incomplete', () => {
    const destinations = [
      { sectors: 2048, ok: false },
      { sectors: 2048, ok: false },
    ];
    const failed = outcome({ writeErr: 0b10, failures: [SPACE, { ...SPACE, sector: 4000 }], destinations });
    expect([0, 1].map((index) => verdict(PLAN, { outcome: failed, aborted: false }, index))).toEqual([
      'incomplete: the copy stopped after the first error',
      'incomplete: write failed at sector 2048 (8 sectors): no space left on device (ENOSPC); and 1 more',
    ]);
    const aborted = outcome({ readErr: 125, destinations });
    expect(verdict(PLAN, { outcome: aborted, aborted: true }, 0)).toBe('incomplete: aborted');
  });

  test('a flush that failed is told without a place', () => {
    const flush: Failure = { op: 'flush', destination: 1, sector: 0, count: 4096, code: 'EIO', errno: 5 };
    const destinations = [
      { sectors: 4096, ok: true },
      { sectors: 4096, ok: false },
    ];
    const ending = { outcome: outcome({ writeErr: 0b10, failures: [flush], destinations }), aborted: false };
    expect(verdict(PLAN, ending, 1)).toBe('incomplete: flush failed: i/o error (EIO)');
  });

  test('what cannot be read is told of the source, five places at most', () => {
    const destinations = [
      { sectors: 0, ok: false },
      { sectors: 0, ok: false },
    ];
    const failures = Array.from({ length: 7 }, (_, index): Failure => {
      return { op: 'read', destination: null, sector: index * 16, count: 8, code: 'EIO', errno: 5 };
    });
    const lines = outcomeLines(PLAN, { outcome: outcome({ readErr: 5, failures, destinations }), aborted: false });
    expect(lines[0]).toBe('source /dev/a: read failed at sector 0 (8 sectors): i/o error (EIO)');
    expect(lines[5]).toBe('source /dev/a: and 2 more failures');
    expect(lines[7]).toContain('incomplete: the source could not be read');
    expect(lines.at(-1)).toBe('failed after 0.50 s; engine io_uring (it runs here)');
  });
});

describe('refusals', () => {
  const asked: Asked = {
    source: { path: '/dev/a', sectors: 40960, bytes: 40960 * 512 },
    destinations: [
      { path: '/dev/b', sectors: 40960 },
      { path: '/dev/c', sectors: 20480 },
    ],
    opening: undefined,
    sector: 0,
    count: undefined,
    destinationSector: 0,
  };
  const refuse = (
    code: string,
    more: { destination?: number; message?: string },
    changes: Partial<Asked> = {},
  ): string => {
    const error = Object.assign(new Error(more.message ?? 'to[1].sector: no'), { code, ...more });
    return explain(error as never, { ...asked, ...changes });
  };

  test('a destination that is too small says by how much, and what would fit', () => {
    expect(refuse('ERR_KCOPYD_BOUNDS', { destination: 1 })).toBe(
      '/dev/c is too small: 10.0 MiB (20480 sectors) short. It has 10.0 MiB (20480 sectors), and 20.0 MiB are to be copied: ' +
        'take a larger device, or copy less with --count 20480',
    );
    expect(refuse('ERR_KCOPYD_BOUNDS', { destination: 1 }, { count: 16, destinationSector: 20472 })).toContain(
      '4.0 KiB (8 sectors) short. It has 4.0 KiB (8 sectors) from sector 20472',
    );
  });

  test('a source that is too small says by how much', () => {
    expect(refuse('ERR_KCOPYD_BOUNDS', {}, { count: 50000 })).toContain(
      '/dev/a is too small: 4.4 MiB (9040 sectors) short',
    );
    expect(refuse('ERR_KCOPYD_BOUNDS', {}, { sector: 50000 })).toContain('/dev/a ends before sector 50000');
  });

  test('the others name the device, and once only', () => {
    expect(refuse('ERR_KCOPYD_ALIGNMENT', { destination: 1 })).toBe('/dev/c: to[1].sector: no');
    expect(refuse('EBUSY', { message: "EBUSY: resource busy or locked, open '/dev/c'" }, { opening: 1 })).toBe(
      "EBUSY: resource busy or locked, open '/dev/c'",
    );
    expect(refuse('ENOENT', { message: "ENOENT: no such file or directory, open '/dev/c'" }, { opening: 1 })).toContain(
      '--create',
    );
    expect(refuse('ERR_KCOPYD_OVERLAP', { destination: 0 })).toContain(
      '/dev/b would be written where this copy also reads',
    );
  });
});
