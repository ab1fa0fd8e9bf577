// The engine names options as the command does; a program's have no dashes.

import { ImageError } from '../errors.ts';

const FLAG = /--(top|relink|reclaim|delete|drop|overlay|force|rebase-siblings)\b/g;
/** Those that are called otherwise. */
const NAMES: Readonly<Record<string, string>> = {
  overlay: 'overlays',
  'rebase-siblings': 'rebaseSiblings',
};

export function inOptionNames(text: string): string {
  return text
    .replace(FLAG, (_, name: string) => NAMES[name] ?? name)
    .replace(/ \(-[bd]\)/, '')
    .replace(/-F\b/, 'backingFormat')
    .replace('the same command', 'the same call');
}

/** The same error, its words for programs. */
export function forPrograms(error: unknown): unknown {
  if (!(error instanceof ImageError)) return error;
  const { code, message, errno, hint } = error;
  const said = inOptionNames(message);
  const next = hint === undefined ? undefined : inOptionNames(hint);
  if (said === message && next === hint) return error;
  return new ImageError(code, said, {
    cause: error.cause,
    findHolders: () => error.holders,
    ...(errno !== undefined && { errno }),
    ...(next !== undefined && { hint: next }),
  });
}
