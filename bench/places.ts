// Where small jobs copy. Pure arithmetic.

/**
 * The page of the nth job: every page once in `pages` jobs, in an order without a pattern that a device could guess. Odd factors
 * and shifts are one to one on numbers below a power of two. `crates/kcopyd/examples/core_jobs.rs` has the same.
 */
export function place(job: number, pages: number): number {
  const bits = Math.log2(pages);
  let page = job % pages;
  for (const factor of [0x9e3779b1, 0x85ebca6b]) {
    page = (Math.imul(page, factor) >>> 0) % pages;
    page ^= page >>> Math.max(1, bits >> 1);
  }
  return page;
}
