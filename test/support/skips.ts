// A reporter for vitest that says at the end of a run what was skipped and why, once per reason: a skip is never silent.
import type { Reporter, TestModule, Vitest } from 'vitest/node';

export default class Skips implements Reporter {
  #unchosen = 'no reason given';

  onInit({ config }: Vitest): void {
    if (config.testNamePattern) this.#unchosen = 'not chosen by name';
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    const counts = new Map<string, number>();
    for (const module of modules) {
      for (const test of module.children.allTests('skipped')) {
        const result = test.result();
        const reason = (result.state === 'skipped' && result.note) || this.#unchosen;
        counts.set(reason, (counts.get(reason) ?? 0) + 1);
      }
    }
    for (const [reason, count] of counts)
      console.log(`   Skipped  ${count} ${count === 1 ? 'test' : 'tests'}: ${reason}`);
  }
}
