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

/** Copies whole devices or files, so many times in one process. */
export interface CopyTask extends Common {
  readonly kind: 'copy';
  readonly times: number;
  /** Whether the destinations are files that are not there. */
  readonly create?: boolean;
}

/** Copies a file as Node does, and makes the copy durable. */
export interface CopyFileTask extends Common {
  readonly kind: 'copyFile';
}

/** Makes the destinations zero. */
export interface ZeroTask extends Common {
  readonly kind: 'zero';
}

/** Copies one source, so many times, while another client in the same process copies something else that is slow. */
export interface BesideTask extends Common {
  readonly kind: 'beside';
  readonly times: number;
  /** A control group that the process joins. */
  readonly group: string;
  /** Absent: nothing goes on beside it. */
  readonly slow?: { readonly source: string; readonly destinations: readonly string[] };
}

/** Ways to copy a piece at a time. */
export type SmallWay = 'copy' | 'submitCopy' | 'fs.promises' | 'fs.promises direct';

/** Copies small pieces at random places, so many under way at once, and makes them durable at the end. */
export interface SmallTask extends Common {
  readonly kind: 'small';
  readonly way: SmallWay;
  /** Bytes of each job; 0 for jobs that touch no device. */
  readonly jobBytes: number;
  readonly jobs: number;
  readonly depth: number;
}

export type Task = CopyTask | CopyFileTask | ZeroTask | BesideTask | SmallTask;

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
  /** What went on beside it: bytes of its source, and how long it took from its own begin to its own end. */
  readonly slow?: { readonly bytes: number; readonly seconds: number };
  /** Of what was made zero: how much was written as zeros instead of by one call for a range. */
  readonly writtenZeroBytes?: number;
  readonly submissions?: number;
  readonly engine?: { readonly kind: string; readonly reason: string; readonly registeredBuffers: boolean };
  readonly poolBytes?: number;
}
