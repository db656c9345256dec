// The command's arguments: what there is, what it means, what is refused with exit code 2. It knows nothing of devices, and
// leaves limits that the package itself checks (pages, sectors of a sub-job) to the package.
import { createRequire } from 'node:module';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { EXIT_COMPLETE, EXIT_USAGE } from './exit_codes.js';

/** `kcopyd copy`, as asked for. */
export interface CopyArguments {
  readonly command: 'copy';
  readonly source: string;
  readonly destinations: readonly string[];
  /** First sector of the source. */
  readonly sector: number;
  /** Sectors to copy; undefined: to the source's end. */
  readonly count: number | undefined;
  /** First sector in every destination. */
  readonly destinationSector: number;
  readonly pages: number | undefined;
  readonly subJobSectors: number | undefined;
  readonly engine: Engine;
  readonly ignoreErrors: boolean;
  readonly flush: boolean;
  readonly create: boolean;
  readonly json: boolean;
}

/** `kcopyd info`, as asked for. */
export interface InfoArguments {
  readonly command: 'info';
  readonly devices: readonly string[];
  readonly json: boolean;
}

/** Everything is said already: help, version, or what is wrong with the arguments. */
export interface Settled {
  readonly command: 'none';
  readonly exitCode: number;
}

export type Engine = 'auto' | 'io_uring' | 'threads';

const ENGINES = ['auto', 'io_uring', 'threads'] as const;
const DESTINATIONS_MAX = 32;

const COPY_HELP = `
A sector is 512 bytes, always. A destination that is a file grows as needed and is never cut off; a block device must be
large enough, and not mounted or otherwise in use. By default the first error stops the copy, and every destination is
flushed (fdatasync) before it counts as complete.

With --json one JSON object a line goes to standard output: {"type":"start",...}, {"type":"progress",...} at most ten a
second, {"type":"aborting",...} after a signal, and at the end {"type":"outcome",...}, or {"type":"error",...} if nothing was begun.

Exit code: 0 every destination is complete, 1 one is not, 2 wrong usage, 130 after Ctrl-C (143 after SIGTERM, 129 after
SIGHUP): what is in flight lands, what each destination holds is printed. A second Ctrl-C ends it at once.

Examples:
  kcopyd copy /dev/sdb /dev/sdc /dev/sdd
  kcopyd copy --create /dev/sdb disk.img
  kcopyd copy --sector 2048 --count 204800 /dev/sdb --destination-sector 2048 /dev/sdc`;

const INFO_HELP = `
Exit code: 0 every device could be opened for reading, 1 one could not, 2 wrong usage.`;

/** Reads the arguments; prints help, version, or what is wrong with them. */
export function parse(args: readonly string[]): CopyArguments | InfoArguments | Settled {
  let found: CopyArguments | InfoArguments | undefined;
  const program = describe((command) => {
    found = command;
  });
  try {
    program.parse(args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return { command: 'none', exitCode: error.exitCode === 0 ? EXIT_COMPLETE : EXIT_USAGE };
  }
  return found ?? { command: 'none', exitCode: EXIT_USAGE };
}

// The package by its own name: from here as from the bundle in dist/.
const PACKAGE = createRequire(import.meta.url)('kcopyd/package.json') as { version: string };

function describe(found: (command: CopyArguments | InfoArguments) => void): Command {
  const program = new Command('kcopyd')
    .description('Copies sectors of one block device or file to one or more others, and says what each of them holds.')
    .version(PACKAGE.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .showHelpAfterError('(kcopyd --help tells more)')
    .exitOverride();
  describeCopy(program.command('copy'), found);
  describeInfo(program.command('info'), found);
  return program;
}

function describeCopy(command: Command, found: (command: CopyArguments) => void): void {
  command
    .description('copy one device or file to one or more others')
    .argument('<source>', 'block device or file to read')
    .argument('<destinations...>', `1 to ${DESTINATIONS_MAX} block devices or files to write`)
    .addOption(sectors('--sector <n>', 'first sector of the source').default(0))
    .addOption(sectors('--count <n>', "sectors to copy (default: to the source's end)"))
    .addOption(sectors('--destination-sector <n>', 'first sector in every destination').default(0))
    .addOption(sectors('--pages <n>', 'memory of the copy, in pages of 4096 bytes'))
    .addOption(sectors('--sub-job-sectors <n>', 'sectors of the pieces that it is cut into'))
    .addOption(new Option('--engine <name>', 'how I/O is done').choices(ENGINES).default('auto'))
    .option('--ignore-errors', 'attempt everything everywhere; what cannot be read arrives as zeros')
    .option('--no-flush', 'do not flush the destinations at the end')
    .option('--create', 'make destination files that do not exist')
    .option('--json', 'print newline-delimited JSON')
    .addHelpText('after', COPY_HELP)
    .action((source: string, destinations: string[], options: CopyOptions) => {
      if (destinations.length > DESTINATIONS_MAX) {
        command.error(`error: ${destinations.length} destinations: at most ${DESTINATIONS_MAX} are written at a time`);
      }
      const [ignoreErrors, create, json] = [
        options.ignoreErrors ?? false,
        options.create ?? false,
        options.json ?? false,
      ];
      found({ ...options, command: 'copy', source, destinations, ignoreErrors, create, json });
    });
}

/** As commander hands them out: a flag that was not given is absent. */
type CopyOptions = Omit<CopyArguments, 'command' | 'source' | 'destinations' | 'ignoreErrors' | 'create' | 'json'> & {
  readonly ignoreErrors?: true;
  readonly create?: true;
  readonly json?: true;
};

function describeInfo(command: Command, found: (command: InfoArguments) => void): void {
  command
    .description('tell size, blocks, direct I/O and use of devices, and the engine')
    .argument('[devices...]', 'block devices or files; without any, the engine alone')
    .option('--json', 'print newline-delimited JSON, one object a device')
    .addHelpText('after', INFO_HELP)
    .action((devices: string[], { json }: { json?: true }) => found({ command: 'info', devices, json: json ?? false }));
}

function sectors(flags: string, description: string): Option {
  return new Option(flags, description).argParser(wholeNumber);
}

/** A whole number; no signs, fractions, exponents or units, so that a slip is not taken for a number of sectors. */
export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new InvalidArgumentError('It must be a whole number, 0 to 2^53 - 1.');
  }
  return value;
}
