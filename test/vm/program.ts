// Builds the program that runs inside the guest, crates/kcopyd-vm: static, so that it needs nothing there. It knows no guest.
import { join } from 'node:path';
import { run } from '../support/command.js';

const BUILD_MS = 1_200_000;
const TARGET = 'x86_64-unknown-linux-gnu';

/** Builds it by this profile of Cargo.toml; its path. */
export async function buildProgram(root: string, directory: string, profile: string): Promise<string> {
  // A folder of its own: flags other than the rest of the project's would make cargo build that anew each time.
  const target = join(directory, 'cargo');
  const args = ['build', '--locked', '--package', 'kcopyd-vm', '--profile', profile, '--target', TARGET];
  const env = { ...process.env, CARGO_TARGET_DIR: target, RUSTFLAGS: '-C target-feature=+crt-static' };
  console.log(`kcopyd: cargo ${args.join(' ')}`);
  const { code, stderr } = await run('cargo', args, { cwd: root, timeoutMs: BUILD_MS, env });
  if (code !== 0) throw new Error(`cargo ${args.join(' ')}: exit ${code}: ${stderr}`);
  return join(target, TARGET, profile, 'kcopyd-vm');
}
