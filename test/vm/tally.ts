// Counts what the guest reports, prints it, and judges the run as a whole: also a guest that goes down in the middle, and a kernel
// that complains, is a failure. The guest's side of the language is crates/kcopyd-vm/src/report.rs.
import type { Ended } from './boot.js';

/** What a kernel says when it is broken, and not just told of a failing device. */
const KERNEL_TROUBLE =
  /BUG:|Oops|general protection|WARNING: CPU|KASAN|refcount_t|blocked for more than|soft lockup|rcu.*stall/;

export class Tally {
  #passed = 0;
  #failed: string[] = [];
  #running = '';
  #announced: number | undefined;
  #details: string[] = [];

  /** One line of the guest. */
  take(line: string): void {
    const [word, ...rest] = line.split(' ');
    const text = rest.join(' ');
    if (word === '@begin') {
      this.#running = text;
      this.#details = [];
    } else if (word === '@pass') {
      this.#passed += 1;
      this.#over();
      console.log(`  ok      ${rest.slice(1).join(' ')} (${rest[0]} ms)`);
    } else if (word === '@fail') {
      const name = rest.slice(1).join(' ');
      this.#failed.push(name);
      this.#over();
      console.log(`  FAILED  ${name} (${rest[0]} ms)`);
      for (const detail of this.#details) console.log(`          ${detail}`);
    } else if (word === '@note') {
      console.log(`          ${text}`);
    } else if (word === '@end') {
      this.#announced = Number(text);
    } else if (line.startsWith('| ')) {
      this.#details.push(line.slice(2));
    } else if (line !== '') {
      console.log(`  guest:  ${line}`);
    }
  }

  #over(): void {
    this.#running = '';
  }

  /** Judges the run, prints the totals; whether all is well. */
  close(ended: Ended, seconds: number): boolean {
    const troubles = ended.console.split('\n').filter((line) => KERNEL_TROUBLE.test(line));
    if (this.#running) this.#failed.push(this.#running);
    const complaints = [ended.complaint, ...troubles].filter((text) => text !== '');
    if (this.#announced === undefined) {
      complaints.push(`the guest went down${this.#running ? ` in "${this.#running}"` : ' before any case'}`);
      complaints.push(...ended.console.trimEnd().split('\n').slice(-40));
    }
    if (this.#announced === 0) complaints.push('no case has these words in its name');
    console.log();
    for (const complaint of complaints) console.log(`kcopyd: guest: ${complaint}`);
    for (const name of this.#failed) console.log(`kcopyd: guest: failed: ${name}`);
    const counted = this.#passed + this.#failed.length > 0 || this.#announced !== 1;
    const what = counted ? `${this.#passed} passed, ${this.#failed.length} failed` : 'measured';
    console.log(`guest: ${what}, in ${seconds.toFixed(0)} s`);
    return complaints.length === 0 && this.#failed.length === 0;
  }
}
