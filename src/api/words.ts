// The engine names the options of a commit as the command does; a program's have no dashes.

import { ImageError } from '../errors.ts';

const FLAG = /--(top|relink|reclaim|delete|drop|overlay|force)\b/g;

export function inOptionNames(text: string): string {
  return text
    .replace(FLAG, (_, name: string) => (name === 'overlay' ? 'overlays' : name))
    .replace(/ \(-[bd]\)/, '')
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
    ...(errno !== undefined && { errno }),
    ...(next !== undefined && { hint: next }),
  });
}
