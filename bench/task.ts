// What the measured process is told to do, and what it tells. Types only: both sides of the pipe.

/** Options of the client that are not to be the defaults. */
export interface ClientWishes {
  readonly pages?: number;
  readonly subJobSectors?: number;
  readonly engine?: string;
}

interface Common {
  readonly source: string;
  readonly destinations: readonly string[];
  /** Of each device. */
  readonly bytes: number;
  readonly client: ClientWishes;
}

/** Copies whole devices, so many times in one process. */
export interface CopyTask extends Common {
  readonly kind: 'copy';
  readonly times: number;
}

/** Ways to copy a page at a time. */
export type SmallWay = 'copy' | 'submitCopy' | 'fs.promises' | 'fs.promises direct';

/** Copies pages, so many under way at once. */
export interface SmallTask extends Common {
  readonly kind: 'small';
  readonly way: SmallWay;
  readonly jobs: number;
  readonly depth: number;
}

export type Task = CopyTask | SmallTask;

/** What the process measured of itself. */
export interface Told {
  /** From the first submission to the last completion. */
  readonly seconds: number;
  /** User and system time of the whole process meanwhile. */
  readonly cpuSeconds: number;
  /** From the start of the process to the first submission: Node, the import, the client, the devices. */
  readonly startUpSeconds: number;
  readonly startUpCpuSeconds: number;
  /** The largest resident set of the process. */
  readonly residentBytes: number;
  /** The resident set after each copy of the devices. */
  readonly residentBytesAfterEach: readonly number[];
  /** How late the event loop was in 99 of 100 cases, at most. */
  readonly loopDelayP99Ms: number;
  readonly bytes: number;
  readonly submissions?: number;
  readonly engine?: { readonly kind: string; readonly reason: string; readonly registeredBuffers: boolean };
  readonly poolBytes?: number;
}
