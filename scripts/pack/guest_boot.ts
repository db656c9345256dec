// Boots the arm64 guest and hands on what it reports, until it is off or has taken too long.
import { spawn } from 'node:child_process';

/** Emulated, on a machine with much else to do. */
const GUEST_MS = 900_000;
const MEMORY_MIB = 3_072;
const MARK = 'kcopyd-guest ';

/** Boots it; the lines of its report, and all that its console showed. `endWith` gets what kills the guest. */
export async function bootGuest(
  kernel: string,
  image: string,
  endWith: (kill: () => void) => void,
): Promise<{ lines: readonly string[]; console: string }> {
  const args = [
    ...['-machine', 'virt', '-cpu', 'cortex-a72', '-accel', 'tcg,thread=multi', '-smp', '2', '-m', String(MEMORY_MIB)],
    ...['-display', 'none', '-no-reboot', '-nodefaults', '-serial', 'stdio', '-kernel', kernel, '-initrd', image],
    ...['-append', 'console=ttyAMA0 quiet panic=-1 rdinit=/init'],
  ];
  const qemu = spawn('qemu-system-aarch64', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const kill = () => qemu.kill('SIGKILL');
  endWith(kill);
  const deadline = setTimeout(kill, GUEST_MS);
  let shown = '';
  for (const stream of [qemu.stdout, qemu.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      shown += text;
    });
  }
  await new Promise((resolve, reject) => {
    qemu.on('error', reject);
    qemu.on('close', resolve);
  });
  clearTimeout(deadline);
  const lines = shown.split(/\r?\n/).flatMap((line) => (line.startsWith(MARK) ? [line.slice(MARK.length)] : []));
  return { lines, console: shown };
}
