// Whether a binary can be loaded on the platform that its package is for. It judges what elf.ts reads.
import { type Elf, readElf } from './elf.js';
import type { Platform } from './platforms.js';

/** Libraries that every system with this libc has, and Node with them. */
const LIBRARIES: Readonly<Record<Platform['libc'], RegExp>> = {
  // The last is there only for what gcc links on a developer's machine; zig's binaries bring their unwinder with them.
  glibc:
    /^(libc\.so\.6|libpthread\.so\.0|libdl\.so\.2|libm\.so\.6|librt\.so\.1|ld-linux-(x86-64\.so\.2|aarch64\.so\.1)|libgcc_s\.so\.1)$/,
  musl: /^libc\.so$/,
};

/** What is wrong with a binary, and in a few words what it asks for. */
export async function judgeElf(
  path: string,
  platform: Platform,
  glibcMax: readonly [number, number] | null,
): Promise<{ problems: string[]; words: string }> {
  const elf = await readElf(path);
  const problems: string[] = [];
  if (elf.cpu !== platform.cpu) problems.push(`is for ${elf.cpu}, not for ${platform.cpu}`);
  for (const library of elf.needed) if (!LIBRARIES[platform.libc].test(library)) problems.push(`needs ${library}`);
  problems.push(...judgeGlibc(elf, platform, glibcMax));
  if (elf.unstripped.length > 0) problems.push(`is not stripped: it has ${elf.unstripped.join(', ')}`);
  if (!elf.isAddon) problems.push('exports no napi_register_module_v1');
  if (elf.searchPath) problems.push('has a search path for libraries');
  if (elf.executableStack) problems.push('asks for an executable stack');
  const asks = elf.glibc ? `glibc ${elf.glibc.join('.')}` : platform.libc;
  return {
    problems: problems.map((text) => `${platform.binary} ${text}`),
    words: `asks for ${asks}, ${elf.needed.join(' ')}`,
  };
}

function judgeGlibc(
  { glibc, needed, unversioned }: Elf,
  platform: Platform,
  most: readonly [number, number] | null,
): string[] {
  if (platform.libc === 'musl') return glibc ? [`asks for glibc ${glibc.join('.')}`] : [];
  // Linked against an older glibc than has them: at load time they are there or not, whatever the versions say.
  if (unversioned.length > 0) return [`asks for ${unversioned.join(', ')} of no version of glibc`];
  if (!glibc) return [needed.includes('libc.so.6') ? 'asks for no version of glibc' : 'asks for no glibc'];
  if (most === null) return [];
  const [major, minor] = glibc;
  const tooNew = major > most[0] || (major === most[0] && minor > most[1]);
  return tooNew ? [`asks for glibc ${major}.${minor}, the limit is ${most.join('.')}`] : [];
}
