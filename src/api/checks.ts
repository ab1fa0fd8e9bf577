// Options that a compiler would have refused, from programs that had none.

import { ImageError } from '../errors.ts';
import type { CacheMode } from '../io/host.ts';

/** All values of a union, in the order of its declaration. */
const CACHE_MODES = Object.keys({
  none: true,
  writeback: true,
  unsafe: true,
  directsync: true,
  writethrough: true,
} satisfies Record<CacheMode, true>);

/** Throws `invalid` for a value that is none of `choices`; undefined is one always. */
export function checkChoice(name: string, value: unknown, choices: readonly unknown[]): void {
  if (value === undefined || choices.includes(value)) return;
  throw new ImageError('invalid', `${name} is none of ${choices.join(', ')}: ${String(value)}`);
}

export function checkCache(cache: unknown): void {
  checkChoice('cache', cache, CACHE_MODES);
}

/** Throws `invalid` unless it is a whole number from 0 to `most`. */
export function checkCount(name: string, value: number, most = Number.MAX_SAFE_INTEGER): void {
  if (Number.isSafeInteger(value) && value >= 0 && value <= most) return;
  throw new ImageError('invalid', `${name} is out of range: ${value}`);
}
