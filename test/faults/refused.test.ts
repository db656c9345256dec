// What a kernel, a container or an administrator refuses: io_uring by a seccomp filter, memory that may be locked. The same copies
// come to the same end on whatever is left. In processes of their own, by the face; the bytes are looked at from here.
import { fileURLToPath } from 'node:url';
import type { ClientStats, Outcome } from 'kcopyd';
import { expect } from 'vitest';
import { inOwnProcess } from '../support/kcopyd.js';
import { programs } from '../support/machine.js';
import { eachSetting, MATRIX, regions, source } from './support/matrix.js';
import { COUNT, PIECE, type Trial, Unavailable } from './support/rig.js';
import { expectTruth } from './support/truth.js';

const REFUSE = fileURLToPath(new URL('../support/refuse.py', import.meta.url));
const [SETUP, ENTER, REGISTER] = [425, 426, 427];
const only = ['--bounding-set', '--inh-caps', '--ambient-caps'].map((caps) => `${caps}=-all,+dac_override`);

interface Refusal {
  readonly title: string;
  readonly tools: readonly string[];
  readonly wrap: readonly string[];
  /** What is used then, and why. */
  readonly engine: { readonly kind: string; readonly reason: RegExp };
}

const REFUSALS: readonly Refusal[] = [
  ...(
    [
      ['EPERM', 'io_uring_setup', SETUP, /seccomp filter.*not permitted/],
      ['ENOSYS', 'io_uring_setup', SETUP, /older than 5\.1.*seccomp filter hides it/],
      ['EPERM', 'io_uring_register', REGISTER, /seccomp filter/],
      ['EPERM', 'io_uring_enter', ENTER, /seccomp filter/],
    ] as const
  ).map(([errno, name, number, reason]) => ({
    title: `a seccomp filter answers ${errno} to ${name}`,
    tools: ['python3'],
    wrap: ['python3', REFUSE, errno, String(number)],
    engine: { kind: 'threads', reason },
  })),
  {
    title: 'no memory may be locked',
    tools: ['prlimit', 'setpriv'],
    // What is locked is counted for each user: so it is one that nobody is, who may still open the devices.
    wrap: ['prlimit', '--memlock=262144', 'setpriv', '--reuid=64322', '--clear-groups', ...only],
    engine: { kind: 'io_uring', reason: /buffers not registered.*RLIMIT_MEMLOCK/ },
  },
];

/** The engine is what the refusal leaves. */
const SETTINGS = MATRIX.filter(({ engine }) => engine === 'io_uring');

const SCRIPT = `
  const client = await KcopydClient.create({ pages: 256, subJobSectors: args.piece });
  const outcome = await client.copy(args.from, args.to, { flush: true });
  const again = await client.zero(args.to.map((to) => ({ ...to, count: 8 })).slice(0, 1)).then(({ sectors }) => sectors);
  const back = await client.copy({ ...args.from, count: 8 }, args.to[0]).then(({ sectors }) => sectors);
  const { engine, pages } = client.stats;
  await client.close();
  console.log(JSON.stringify({ engine, pages, outcome, again, back }));`;

interface Told {
  readonly engine: ClientStats['engine'];
  readonly pages: ClientStats['pages'];
  readonly outcome: Outcome;
  readonly again: number;
  readonly back: number;
}

async function told(trial: Trial, wrap: readonly string[]): Promise<Told> {
  const args = { from: source(trial), to: regions(trial), piece: PIECE };
  const ended = await inOwnProcess(SCRIPT, args, { wrap, env: { KCOPYD_ENGINE: '' } });
  if (ended.signal === 'SIGABRT') throw new Unavailable(`Node ${process.version} itself aborts there`);
  expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' });
  return JSON.parse(ended.stdout) as Told;
}

for (const { title, tools, wrap, engine } of REFUSALS) {
  const found = programs(...tools);
  eachSetting(`P26 ${title}`, { settings: SETTINGS, found }, async (trial) => {
    const { engine: used, pages, outcome, again, back } = await told(trial, wrap);
    expect(used).toMatchObject({ kind: engine.kind, registeredBuffers: false });
    expect(used.reason).toMatch(engine.reason);
    expect(outcome).toMatchObject({ readErr: 0, writeErr: 0, sectors: COUNT, failures: [] });
    expect([again, back]).toEqual([8, 8]);
    expect(pages.free).toBe(pages.total);
    await expectTruth(outcome, trial.to);
  });
}
