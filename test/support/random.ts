// Bytes that look random and are the same for the same seed, fast enough to fill images: a block cipher over zeros. It knows
// nothing of files.
import { createCipheriv, createHash } from 'node:crypto';

const BLOCK_BYTES = 16;

/** `bytes` bytes of the seed's stream, beginning `offset` bytes into it (a multiple of 16). */
export function randomBytes(seed: string, bytes: number, offset: number = 0): Buffer {
  if (offset % BLOCK_BYTES !== 0) throw new RangeError(`offset ${offset} is not a multiple of ${BLOCK_BYTES}`);
  const key = createHash('sha256').update(seed).digest().subarray(0, BLOCK_BYTES);
  const counter = Buffer.alloc(BLOCK_BYTES);
  counter.writeBigUInt64BE(BigInt(offset / BLOCK_BYTES), 8);
  return createCipheriv('aes-128-ctr', key, counter).update(Buffer.alloc(bytes));
}

/** A generator of numbers in [0, 1) that repeats for the same seed (xorshift32 of a hash). */
export function randomNumbers(seed: string): () => number {
  let state = createHash('sha256').update(seed).digest().readUInt32LE(0) || 1;
  return () => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
}
