// Looks at a library before the dynamic loader does, for two things that the loader does not say: a file that ends too early
// kills the process (SIGBUS) when its missing part is touched, and one for another processor is "not found". It refuses to
// judge anything else; the loader refuses all the rest in words of its own.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

const HEADER_BYTES = 64;
const MAGIC = '\x7fELF\x02\x01';
const MACHINE_AT = 18;
const SECTIONS_AT = 40;
const SECTION_BYTES_AT = 58;
const SECTION_COUNT_AT = 60;
const MACHINES: Readonly<Record<string, number>> = { x64: 62, arm64: 183 };

/** What is wrong with a library, if it is one of these two things. Throws what reading it throws. */
export function flawOf(path: string): string | undefined {
  const file = openSync(path, 'r');
  try {
    const header = Buffer.alloc(HEADER_BYTES);
    const isHeader = readSync(file, header) === HEADER_BYTES && header.toString('latin1', 0, MAGIC.length) === MAGIC;
    return isHeader ? flawOfHeader(header, fstatSync(file).size) : undefined;
  } finally {
    closeSync(file);
  }
}

function flawOfHeader(header: Buffer, bytes: number): string | undefined {
  const machine = header.readUInt16LE(MACHINE_AT);
  const here = MACHINES[process.arch];
  if (here !== undefined && machine !== here)
    return `it is for another processor (ELF machine ${machine}, here ${here})`;
  // The table of sections is the last thing in a file.
  const table = header.readUInt16LE(SECTION_BYTES_AT) * header.readUInt16LE(SECTION_COUNT_AT);
  const end = Number(header.readBigUInt64LE(SECTIONS_AT)) + table;
  return bytes < end ? `it ends after ${bytes} of ${end} bytes` : undefined;
}
