// What can follow on the command line, verb by verb: read from the definitions of the verbs.

import type { VerbDefinition } from './definitions.ts';
import { CACHE_MODES } from './options.ts';

/** What a value or an operand is: a file, a directory, one of some words, or something else. */
export type Value =
  | { readonly kind: 'file' | 'directory' | 'other' }
  | { readonly kind: 'words'; readonly words: readonly string[] };

export interface OptionRow {
  /** With their dashes, the short one first. */
  readonly names: readonly string[];
  readonly about: string;
  readonly repeatable: boolean;
  /** Null for a switch. */
  readonly value: Value | null;
}

export interface VerbRow {
  readonly name: string;
  readonly about: string;
  readonly options: readonly OptionRow[];
  readonly operand: Value;
}

export function completionTable(definitions: readonly VerbDefinition[]): readonly VerbRow[] {
  return definitions.map(({ name, about, command }) => ({
    name,
    about,
    options: [
      ...command.options.map((option): OptionRow => {
        const { short, long, description, required, flags, repeatable } = option;
        const names = [short, long].filter((word) => word !== undefined);
        const value = required ? valueFor(long, /<(.*)>/.exec(flags)?.[1] ?? '') : null;
        return { names, about: description, value, repeatable };
      }),
      { names: ['-h', '--help'], about: 'show this help', value: null, repeatable: false },
    ],
    operand: operandOf(command.usage()),
  }));
}

/** By the word that stands for it in the help. */
function valueFor(long: string, placeholder: string): Value {
  if (long === '--output') return { kind: 'words', words: ['human', 'json'] };
  if (long === '--repair') return { kind: 'words', words: ['leaks', 'all'] };
  if (placeholder === 'mode') return { kind: 'words', words: CACHE_MODES };
  if (/^(fmt|format)$/.test(placeholder)) return { kind: 'words', words: ['qcow2', 'raw'] };
  if (placeholder === 'dir') return { kind: 'directory' };
  return { kind: /^(file|name|filename)$/.test(placeholder) ? 'file' : 'other' };
}

function operandOf(usage: string): Value {
  const operands = usage.replace('[OPTIONS] ', '');
  if (/^[\w-]+(\|[\w-]+)+$/.test(operands)) return { kind: 'words', words: operands.split('|') };
  return { kind: 'file' };
}
