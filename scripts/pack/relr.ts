// Lets an older musl load a newer library. Since 2023 Alpine's compilers write relative relocations in a packed form (DT_RELR) that
// musl before 1.2.4 does not read, Debian 12's among them: it would leave those pointers as they are, and crash. This writes the
// same relocations in the form that every loader reads. It knows ELF of 64 bits and the two processors that kcopyd has binaries for.
import { readFileSync, writeFileSync } from 'node:fs';

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_NOTE = 4;
const DT_RELA = 7n;
const DT_RELASZ = 8n;
const DT_DEBUG = 21n;
const DT_RELRSZ = 35n;
const DT_RELR = 36n;
const DT_RELRENT = 37n;
/** The relocation "what is here, plus where the library is", by the number of the processor in the header. */
const RELATIVE: Readonly<Record<number, bigint>> = { 62: 8n, 183: 1027n };
const RELA_BYTES = 24;
/** The largest page that either processor may have: what is mapped must begin on one. */
const PAGE_BYTES = 0x10000;

interface Segment {
  readonly at: number;
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
}

/** Rewrites a library in place, if it has such relocations. */
export function unpackRelocations(path: string): void {
  const file = readFileSync(path);
  const segments = segmentsOf(file);
  const entries = dynamicOf(file, segments);
  const [relr, relrBytes] = [entries.get(DT_RELR), entries.get(DT_RELRSZ)];
  const [rela, relaBytes] = [entries.get(DT_RELA), entries.get(DT_RELASZ)];
  if (!relr || !relrBytes) return;
  const type = RELATIVE[file.readUInt16LE(18)];
  const note = segments.find((segment) => segment.type === PT_NOTE);
  if (!type || !note || !rela || !relaBytes) throw new Error(`${path}: not a library as it was expected`);
  const inFile = (address: number) => offsetOf(segments, address);
  const places = decode(file.subarray(inFile(relr.value), inFile(relr.value) + relrBytes.value));
  const table = Buffer.concat([
    file.subarray(inFile(rela.value), inFile(rela.value) + relaBytes.value),
    ...places.map((place) => relocation(place, type, file.readBigInt64LE(inFile(place)))),
  ]);
  const offset = pageAfter(file.length);
  const address = pageAfter(Math.max(...segments.map((segment) => segment.address + segment.memoryBytes)));
  const grown = Buffer.alloc(offset + table.length);
  file.copy(grown);
  table.copy(grown, offset);
  // Nobody reads the notes: their segment becomes the one that the longer table is in.
  writeSegment(grown, note.at, offset, address, table.length);
  grown.writeBigUInt64LE(BigInt(address), rela.at + 8);
  grown.writeBigUInt64LE(BigInt(table.length), relaBytes.at + 8);
  // An entry that loaders pass over.
  for (const tag of [DT_RELR, DT_RELRSZ, DT_RELRENT]) grown.writeBigUInt64LE(DT_DEBUG, entries.get(tag)?.at ?? 0);
  writeFileSync(path, grown);
}

function segmentsOf(file: Buffer): readonly Segment[] {
  const [table, bytes, count] = [Number(file.readBigUInt64LE(32)), file.readUInt16LE(54), file.readUInt16LE(56)];
  return Array.from({ length: count }, (_, index) => {
    const at = table + index * bytes;
    const number = (offset: number) => Number(file.readBigUInt64LE(at + offset));
    return {
      at,
      type: file.readUInt32LE(at),
      offset: number(8),
      address: number(16),
      fileBytes: number(32),
      memoryBytes: number(40),
    };
  });
}

/** The dynamic section: for each tag, where in the file its entry is, and its value. */
function dynamicOf(file: Buffer, segments: readonly Segment[]): Map<bigint, { at: number; value: number }> {
  const found = segments.find(({ type }) => type === PT_DYNAMIC);
  const entries = new Map<bigint, { at: number; value: number }>();
  if (!found) return entries;
  for (let at = found.offset; at < found.offset + found.fileBytes; at += 16) {
    const tag = file.readBigUInt64LE(at);
    if (tag === 0n) break;
    entries.set(tag, { at, value: Number(file.readBigUInt64LE(at + 8)) });
  }
  return entries;
}

function offsetOf(segments: readonly Segment[], address: number): number {
  const found = segments.find(
    (one) => one.type === PT_LOAD && one.address <= address && address < one.address + one.fileBytes,
  );
  if (!found) throw new Error(`no part of the file is at address ${address}`);
  return address - found.address + found.offset;
}

/** An even word is an address; an odd one has a bit for each of the 63 words after what came before. */
function decode(packed: Buffer): number[] {
  const places: number[] = [];
  let next = 0;
  for (let at = 0; at < packed.length; at += 8) {
    const word = packed.readBigUInt64LE(at);
    if (word % 2n === 0n) {
      places.push(Number(word));
      next = Number(word) + 8;
      continue;
    }
    for (let bit = 0; bit < 63; bit++) if ((word >> BigInt(bit + 1)) % 2n === 1n) places.push(next + 8 * bit);
    next += 8 * 63;
  }
  return places;
}

function relocation(place: number, type: bigint, addend: bigint): Buffer {
  const entry = Buffer.alloc(RELA_BYTES);
  entry.writeBigUInt64LE(BigInt(place), 0);
  entry.writeBigUInt64LE(type, 8);
  entry.writeBigInt64LE(addend, 16);
  return entry;
}

function writeSegment(file: Buffer, at: number, offset: number, address: number, bytes: number): void {
  file.writeUInt32LE(PT_LOAD, at);
  file.writeUInt32LE(4, at + 4);
  for (const [index, value] of [offset, address, address, bytes, bytes, PAGE_BYTES].entries()) {
    file.writeBigUInt64LE(BigInt(value), at + 8 + 8 * index);
  }
}

function pageAfter(bytes: number): number {
  return Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
}
