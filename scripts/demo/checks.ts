// The demo's checks, by tools that are not ours: cmp, fsck.ext4, mounting and diff. It counts them, prints each, and knows
// nothing of kcopyd.
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { output, run } from '../../test/support/command.js';
import { hasMount, programs } from '../../test/support/machine.js';
import type { Disk, Image } from './disks.js';

const SLOW_MS = 300_000;

export class Checks {
  #passed = 0;
  #failed = 0;

  /** Something that must be true. */
  that(what: string, holds: boolean, detail = ''): void {
    console.log(`  ${holds ? 'ok    ' : 'FAILED'}  ${what}${detail && `: ${detail}`}`);
    if (holds) this.#passed += 1;
    else this.#failed += 1;
  }

  /** Something that went wrong. */
  failed(what: string, error: unknown): void {
    this.that(what, false, error instanceof Error ? (error.stack ?? error.message) : String(error));
  }

  /** A program that must succeed. */
  async command(what: string, program: string, args: readonly string[]): Promise<void> {
    const { code, stdout, stderr } = await run(program, args, { timeoutMs: SLOW_MS });
    this.that(`${what}: ${program} ${args.join(' ')}`, code === 0, code === 0 ? '' : (stdout + stderr).trim());
  }

  /** The first bytes are the same. */
  async identical(source: Disk, copy: Disk, bytes: number): Promise<void> {
    if (bytes > 0) await this.command('same bytes', 'cmp', ['-n', String(bytes), source.path, copy.path]);
  }

  /** The file system is whole. */
  async fileSystem(copy: Disk): Promise<void> {
    await this.command('whole file system', 'fsck.ext4', ['-fn', copy.path]);
  }

  /** The files are the ones that were put in: looked at by mounting, or without root by what debugfs takes out. */
  async tree(copy: Disk, image: Image): Promise<void> {
    const place = mkdtempSync(join(image.tree, '..', 'look-'));
    const mounts = await hasMount();
    if (mounts.available) {
      // `noload`: nothing is replayed, nothing is written, what is there is looked at.
      await output('mount', ['-t', 'ext4', '-o', 'ro,noload', copy.path, place]);
      try {
        await this.#sameFiles(image, place);
      } finally {
        await output('umount', [place]);
      }
      return;
    }
    if (!programs('debugfs').available) return;
    await output('debugfs', ['-R', `rdump / ${place}`, copy.path], { timeoutMs: SLOW_MS });
    await this.#sameFiles(image, place);
  }

  /** The exit code. */
  summary(): number {
    console.log(`\n${this.#passed} checks passed, ${this.#failed} failed`);
    return this.#failed === 0 ? 0 : 1;
  }

  async #sameFiles(image: Image, place: string): Promise<void> {
    const args = ['-r', '--no-dereference', '--exclude=lost+found', image.tree, place];
    await this.command('same files', 'diff', args);
  }
}
