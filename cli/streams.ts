// Standard output and error as the command uses them: lines out, and a reader that goes away does not end a copy.

/** A line of JSON on standard output. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** A line for a person on standard output. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** A line for a person on standard error. */
export function complain(line: string): void {
  process.stderr.write(`kcopyd: ${line}\n`);
}

/**
 * Once nobody reads what is printed (`kcopyd … | head`), or it cannot be kept (a log on a full disk), printing stops and the
 * copy goes on: half a copy helps nobody, and the exit code still tells.
 */
export function forgiveClosedPipes(): void {
  let isSaid = false;
  process.stderr.on('error', () => {});
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    // A reader that has gone away knows.
    if (isSaid || error.code === 'EPIPE') return;
    isSaid = true;
    complain(`standard output cannot be written, the exit code tells how it ends: ${error.message}`);
  });
}
