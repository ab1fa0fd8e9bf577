// Sizes with suffixes, alignment, and the two kinds of offset that must never be mixed.

import { ImageError } from './errors.ts';

declare const tag: unique symbol;
type Tagged<Name extends string> = number & { readonly [tag]: Name };
/** A byte position on the virtual disk. */
export type GuestOffset = Tagged<'guest'>;
/** A byte position in the image file. */
export type HostOffset = Tagged<'host'>;

export const guestOffset = (value: number): GuestOffset => value as GuestOffset;
export const hostOffset = (value: number): HostOffset => value as HostOffset;

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const SECTOR = 512;

/** `value` rounded down to a multiple of `unit`; exact for safe integers (no 32-bit operators). */
export function alignDown(value: number, unit: number): number {
  return value - (value % unit);
}

/** `value` rounded up to a multiple of `unit`. */
export function alignUp(value: number, unit: number): number {
  const rest = value % unit;
  return rest === 0 ? value : value + (unit - rest);
}

export function divideUp(value: number, unit: number): number {
  return alignUp(value, unit) / unit;
}

/** The number whose high and low 32-bit halves are given; may be unsafe above 2^53 - 1: check. */
export function joinU64(high: number, low: number): number {
  return (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
}

const SUFFIX_POWER: Readonly<Record<string, number>> = { k: 1, m: 2, g: 3, t: 4, p: 5, e: 6 };
const TWO_64 = 2n ** 64n;

/**
 * Bytes named by a size in QEMU's notation: decimal digits, an optional fraction where a suffix
 * follows, an optional suffix b, k, K, M, G, T, P, E (powers of 1024); or `0x` and hex digits.
 * White space and a plus sign may come first. Without a suffix it counts bytes. Undefined where the
 * text is no size; `too-large` from 2^64 on.
 */
export function parseExactSize(text: string): bigint | 'too-large' | undefined {
  const hex = /^\s*\+?(0x[0-9a-f]+)([kmgtp]?)$/i.exec(text);
  const match = hex ?? /^\s*\+?(\d+)(?:\.\d*)?([bkmgtpe]?)$/i.exec(text);
  if (match === null) return undefined;
  const [, whole = '0', suffix = ''] = match;
  const unit = 1024n ** BigInt(SUFFIX_POWER[suffix.toLowerCase()] ?? 0);
  const fraction = hex === null ? Number(`0${/\.\d*/.exec(text)?.[0] ?? ''}`) : 0;
  if (unit === 1n && fraction !== 0) return undefined;
  // The fraction in units of 2^-64: exact, as it has 53 bits.
  const parts = BigInt(Math.floor(fraction * 2 ** 64));
  const value = BigInt(whole) * unit + (parts * unit) / TWO_64;
  return value < TWO_64 ? value : 'too-large';
}

/** The same as a number; undefined also from 2^63 - 1 on. */
export function parseSize(text: string): number | undefined {
  const size = parseExactSize(text);
  return typeof size === 'bigint' && Number(size) < 2 ** 63 ? Number(size) : undefined;
}

/** Throws unless `value` is an integer in 0 .. 2^53 - 1. */
export function checkOffset(value: number, what: string): void {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new ImageError('invalid', `${what} is out of range: ${value}`);
  }
}
