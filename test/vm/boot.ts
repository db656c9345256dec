// Boots the guest and hands on what it reports, line by line, until it is off or says nothing for too long. It knows no case.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface Boot {
  /** Where the kernel's messages are kept. */
  readonly directory: string;
  readonly kernel: string;
  readonly image: string;
  readonly onLine: (line: string) => void;
}

/** How the guest ended. */
export interface Ended {
  /** Why it was ended by us; empty if it switched itself off. */
  readonly complaint: string;
  /** The kernel's own messages. */
  readonly console: string;
}

/** A case ends in a minute, in which it says nothing. */
const SILENCE_MS = 150_000;
/** The least that a processor can: everything took half as long as with `max`, whose protection of memory is dear to emulate. */
const PROCESSOR = 'qemu64';
const MEMORY_MIB = 1280;

/** Boots it; returns when it is off. */
export async function bootGuest(boot: Boot): Promise<Ended> {
  const log = join(boot.directory, 'console.log');
  const args = [
    ...['-accel', 'tcg,thread=multi', '-cpu', PROCESSOR, '-smp', '2', '-m', String(MEMORY_MIB)],
    ...['-display', 'none', '-no-reboot', '-nodefaults', '-serial', `file:${log}`, '-serial', 'stdio'],
    ...['-kernel', boot.kernel, '-initrd', boot.image],
    ...['-append', 'console=ttyS0 quiet panic=-1 oops=panic hung_task_panic=0 random.trust_cpu=on mitigations=off'],
  ];
  const qemu = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  // Whatever ends this process ends the guest too.
  const kill = () => qemu.kill('SIGKILL');
  process.once('exit', kill);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  let complaint = '';
  const silence = () => {
    complaint = `the guest said nothing for ${SILENCE_MS / 1000} s and was ended`;
    kill();
  };
  let timer = setTimeout(silence, SILENCE_MS);
  const lines = createInterface({ input: qemu.stdout });
  lines.on('line', (line) => {
    clearTimeout(timer);
    timer = setTimeout(silence, SILENCE_MS);
    boot.onLine(line.replace(/\r$/, ''));
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    qemu.on('error', reject);
    qemu.on('close', resolve);
  });
  clearTimeout(timer);
  process.removeListener('exit', kill);
  if (code !== 0 && complaint === '') complaint = `QEMU ended with ${code}`;
  return { complaint, console: readFileSync(log, 'utf8') };
}
