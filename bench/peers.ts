// The programs that others copy block devices with, each with the command that is fair to it, and the Debian package that it
// is in. It runs none of them.
import { availableParallelism } from 'node:os';
import { run } from '../test/support/command.js';
import { programs } from '../test/support/machine.js';
import { command, together } from './timed.js';

/** Somebody else's way of doing what a case is about. */
export interface Peer {
  readonly name: string;
  readonly program: string;
  readonly debianPackage: string;
  /** Not a way to copy, but what a copy cannot be faster than. */
  readonly isCeiling?: boolean;
  /** Goes through the page cache: its time includes writing that back. */
  readonly isBuffered?: boolean;
  /** A script of the shell. */
  script(source: string, destinations: readonly string[], bytes: number): string;
  /** How long it copied, if it says that itself. */
  seconds?(printed: string): number;
}

type Aio = 'io_uring' | 'native';

function qemuOptions(prefix: string, path: string, aio: Aio): string {
  const file = `${prefix}file`;
  const options = { driver: 'host_device', filename: path, aio, 'cache.direct': 'on' };
  return [`${prefix}driver=raw`, ...Object.entries(options).map(([name, value]) => `${file}.${name}=${value}`)].join(
    ',',
  );
}

function qemuConvert(from: string, to: string): string {
  const args = ['convert', '-n', '-W', '-m', '16', '-S', '0', '--image-opts', '--target-image-opts', from, to];
  return command('qemu-img', ...args);
}

function qemu(aio: Aio): Peer {
  return {
    name: `qemu-img ${aio}`,
    program: 'qemu-img',
    debianPackage: 'qemu-utils',
    script: (from, [to]) => qemuConvert(qemuOptions('', from, aio), qemuOptions('', to!, aio)),
  };
}

/** One read and a write to each: QEMU's quorum, told to fail if any child does. */
function quorum(aio: Aio): Peer {
  return {
    name: `qemu-img quorum ${aio}`,
    program: 'qemu-img',
    debianPackage: 'qemu-utils',
    script: (from, to) => {
      const children = to.map((path, index) => qemuOptions(`children.${index}.`, path, aio));
      return qemuConvert(qemuOptions('', from, aio), `driver=quorum,vote-threshold=${to.length},${children.join(',')}`);
    },
  };
}

function dd(from: string, to: string): string {
  const flags = ['bs=4M', 'iflag=direct', 'oflag=direct', 'conv=fdatasync', 'status=none'];
  return command('dd', `if=${from}`, `of=${to}`, ...flags);
}

function flushed(script: string, destinations: readonly string[]): string {
  return `${script} && blockdev --flushbufs ${destinations.join(' ')}`;
}

/** Reads and writes at the same time, without the one waiting for the other, as many at once as kcopyd has. */
const CEILING: Peer = {
  name: 'fio',
  program: 'fio',
  debianPackage: 'fio',
  isCeiling: true,
  script: (from, to, bytes) => {
    const ring = ['--ioengine=io_uring', '--direct=1', '--registerfiles', '--fixedbufs', '--iodepth=24', '--bs=512k'];
    const job = (name: string, path: string, how: string): string[] => [
      `--name=${name}`,
      `--filename=${path}`,
      `--rw=${how}`,
      `--size=${bytes}`,
    ];
    const jobs = [job('read', from, 'read'), ...to.map((path, index) => job(`write${index}`, path, 'write'))];
    return command('fio', '--output-format=json', ...ring, ...jobs.flat());
  },
  // It looks at its jobs only now and then: what it says of them is closer than when it ends.
  seconds: (printed) => {
    const { jobs } = JSON.parse(printed) as { jobs: { read: { runtime: number }; write: { runtime: number } }[] };
    return Math.max(...jobs.map(({ read, write }) => read.runtime + write.runtime)) / 1000;
  },
};

const MBUFFER: Peer = {
  name: 'mbuffer',
  program: 'mbuffer',
  debianPackage: 'mbuffer',
  script: (from, to) =>
    flushed(
      command('mbuffer', '-q', '-f', '-s', '1M', '-m', '64M', '-i', from, ...to.flatMap((path) => ['-o', path])),
      to,
    ),
};

/** What copies from one device to one other. */
export const ONE_TO_ONE: readonly Peer[] = [
  qemu('io_uring'),
  qemu('native'),
  { name: 'dd', program: 'dd', debianPackage: 'coreutils', script: (from, [to]) => dd(from, to!) },
  {
    name: 'sgp_dd',
    program: 'sgp_dd',
    debianPackage: 'sg3-utils',
    script: (from, to) =>
      flushed(
        command('sgp_dd', `if=${from}`, `of=${to[0]}`, 'bs=512', 'bpt=2048', 'thr=8', 'iflag=direct', 'oflag=direct'),
        to,
      ),
  },
  {
    name: 'ddpt',
    program: 'ddpt',
    debianPackage: 'ddpt',
    script: (from, [to]) =>
      command('ddpt', `if=${from}`, `of=${to}`, 'bs=512', 'bpt=8192', 'iflag=direct', 'oflag=direct,fdatasync'),
  },
  {
    name: 'nbdcopy',
    program: 'nbdcopy',
    debianPackage: 'libnbd-bin',
    isBuffered: true,
    script: (from, [to]) => {
      const sizes = ['--request-size=2097152', '--queue-size=67108864', '-T', String(availableParallelism())];
      return command('nbdcopy', '--flush', '-S', '0', '--no-extents', '--allocated', ...sizes, from, to!);
    },
  },
  MBUFFER,
  {
    name: 'ddrescue',
    program: 'ddrescue',
    debianPackage: 'gddrescue',
    script: (from, [to]) => command('ddrescue', '-q', '-f', '-d', '-D', '-y', '-c', '2048', from, to!),
  },
  CEILING,
];

/** What copies from one device to several others. */
export const ONE_TO_MANY: readonly Peer[] = [
  quorum('io_uring'),
  quorum('native'),
  MBUFFER,
  {
    name: 'dd for each',
    program: 'dd',
    debianPackage: 'coreutils',
    script: (from, to) => together(...to.map((path) => dd(from, path))),
  },
  CEILING,
];

/** Installs what is missing, where that needs no question; returns what is missing still, for people. */
export async function installPeers(peers: readonly Peer[], mayInstall: boolean): Promise<string[]> {
  const wanted = [...peers, { program: 'time', debianPackage: 'time' }];
  const absent = (): typeof wanted => wanted.filter(({ program }) => !programs(program).available);
  if (absent().length > 0 && mayInstall && process.geteuid?.() === 0) {
    const packages = [...new Set(absent().map(({ debianPackage }) => debianPackage))];
    const args = ['install', '--yes', '--quiet', '--no-install-recommends', ...packages];
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    // What cannot be installed is named below, whatever apt-get says.
    await run('apt-get', args, { env, timeoutMs: 300_000 }).catch(() => undefined);
  }
  return [...new Set(absent().map(({ program, debianPackage }) => `${program} (Debian package ${debianPackage})`))];
}

/** Whether its program is installed. */
export function isInstalled({ program }: Peer): boolean {
  return programs(program).available;
}

const VERSIONS: Readonly<Record<string, readonly string[]>> = { sgp_dd: ['-V'], ddpt: ['-V'] };

/** What the program says of itself, in one line. */
export async function version({ program }: Peer): Promise<string> {
  const { stdout, stderr } = await run(program, VERSIONS[program] ?? ['--version']);
  return (stdout || stderr).split('\n', 1)[0]!.trim();
}
