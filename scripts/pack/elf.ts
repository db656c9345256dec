// Reads from a binary what decides where it can be loaded: the processor, the libraries and the glibc that it asks for, and whether
// debug information was left in. The words are readelf's; it judges nothing.
import { output } from '../../test/support/command.js';

/** What a shared object asks for. */
export interface Elf {
  readonly cpu: 'x64' | 'arm64' | 'unknown';
  /** Libraries that must be there when it is loaded. */
  readonly needed: readonly string[];
  /** The newest glibc that a symbol of it asks for, as numbers; `undefined` if none does. */
  readonly glibc: readonly [number, number] | undefined;
  /** Symbols that must be there when it is loaded, but of no version: nobody can tell from which on they are. */
  readonly unversioned: readonly string[];
  /** Sections that only debuggers and linkers read. */
  readonly unstripped: readonly string[];
  /** Whether Node finds what it calls first. */
  readonly isAddon: boolean;
  /** Whether it brings a search path of the machine that built it. */
  readonly searchPath: boolean;
  /** Whether it asks for memory that can be both written and executed. */
  readonly executableStack: boolean;
}

const CPUS: readonly (readonly [RegExp, Elf['cpu']])[] = [
  [/Machine:\s+Advanced Micro Devices X86-64/, 'x64'],
  [/Machine:\s+AArch64/, 'arm64'],
];

/** Looks at a file. */
export async function readElf(path: string): Promise<Elf> {
  const args = [
    '--wide',
    '--file-header',
    '--program-headers',
    '--sections',
    '--dynamic',
    '--dyn-syms',
    '--version-info',
    path,
  ];
  const text = await output('readelf', args, { env: { ...process.env, LC_ALL: 'C' } });
  const glibcs = [...text.matchAll(/\bGLIBC_(\d+)\.(\d+)/g)].map(
    ([, major, minor]) => [Number(major), Number(minor)] as const,
  );
  return {
    cpu: CPUS.find(([pattern]) => pattern.test(text))?.[1] ?? 'unknown',
    needed: [...text.matchAll(/\(NEEDED\)\s+Shared library: \[([^\]]+)\]/g)].map(([, name]) => name ?? ''),
    glibc: glibcs.sort(([a, b], [c, d]) => a - c || b - d).at(-1),
    unversioned: [...text.matchAll(/\bGLOBAL\s+DEFAULT\s+UND\s+(\w+)(?!\S)/g)].map(([, name]) => name ?? ''),
    unstripped: [...new Set([...text.matchAll(/\s(\.symtab|\.debug_\w+)\s/g)].map(([, name]) => name ?? ''))],
    isAddon: /\bGLOBAL\s+DEFAULT\s+\d+\s+napi_register_module_v1\b/.test(text),
    searchPath: /\((RPATH|RUNPATH)\)/.test(text),
    executableStack: /GNU_STACK\s.*\bRWE\b/.test(text),
  };
}
