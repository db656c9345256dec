// What is in flight, by tokens that it gives out. It refuses to know what that is.
//
// A Map does the same and is as good for a few; with a million in it, finding and forgetting them took 16 % of the event loop's
// time (docs/BENCHMARKS.md). Here a token says where its entry is.

const CAPACITY_MIN = 256;

export class JobTable<T> {
  /** As many places as a power of two; no more than half of them are taken. */
  #entries: (T | undefined)[] = places(CAPACITY_MIN);
  /** The token of each entry. */
  #tokens = new Float64Array(CAPACITY_MIN);
  #size = 0;
  #lastToken: number;

  /** So many tokens count as given out. */
  constructor(lastToken = 0) {
    this.#lastToken = lastToken;
  }

  get size(): number {
    return this.#size;
  }

  /** The token of the next entry: an integer from 1, never the same again. Those whose place is taken are passed over. */
  nextToken(): number {
    if (this.#size * 2 >= this.#entries.length) this.#resize(this.#entries.length * 2);
    do this.#lastToken++;
    while (this.#entries[this.#place(this.#lastToken)] !== undefined);
    return this.#lastToken;
  }

  /** Puts an entry where `nextToken` has just said. */
  put(token: number, entry: T): void {
    const place = this.#place(token);
    this.#entries[place] = entry;
    this.#tokens[place] = token;
    this.#size++;
  }

  /** Takes an entry out; undefined where that was done before. */
  take(token: number): T | undefined {
    const place = this.#place(token);
    const entry = this.#tokens[place] === token ? this.#entries[place] : undefined;
    if (entry === undefined) return undefined;
    this.#entries[place] = undefined;
    this.#size--;
    // What a million jobs needed is not kept for the next few. Not before it is empty: tokens apart here may meet in a smaller table.
    if (this.#size === 0 && this.#entries.length > CAPACITY_MIN) this.#resize(CAPACITY_MIN);
    return entry;
  }

  /** Tokens go on beyond 32 bits, and a mask would look at no more of them than these: which are all that it needs. */
  #place(token: number): number {
    return token & (this.#entries.length - 1);
  }

  #resize(capacity: number): void {
    const [entries, tokens] = [this.#entries, this.#tokens];
    this.#entries = places(capacity);
    this.#tokens = new Float64Array(capacity);
    for (const [at, entry] of entries.entries()) {
      if (entry === undefined) continue;
      // Two that were at different places are at different ones among more places too.
      const place = this.#place(tokens[at]!);
      this.#entries[place] = entry;
      this.#tokens[place] = tokens[at]!;
    }
  }
}

function places<T>(count: number): (T | undefined)[] {
  return new Array<T | undefined>(count).fill(undefined);
}
