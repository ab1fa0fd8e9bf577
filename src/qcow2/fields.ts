// Big-endian structures read and written by their field table.

import { ImageError } from '../errors.ts';
import { joinU64 } from '../units.ts';
import type { Field } from './spec.ts';

type ValueOf<F extends Field> = F['as'] extends 'flags' ? bigint : number;
export type FieldValues<T extends Record<string, Field>> = {
  -readonly [K in keyof T]: ValueOf<T[K]>;
};

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Reads a 64-bit number; throws `corrupt` above 2^53 - 1. */
export function readU64(view: DataView, offset: number, what: string): number {
  const value = joinU64(view.getUint32(offset), view.getUint32(offset + 4));
  if (!Number.isSafeInteger(value)) {
    throw new ImageError('corrupt', `${what} is beyond 2^53 - 1 bytes`);
  }
  return value;
}

/** The same; what is above reads as 2^53 - 1, which is odd, and so no place of a table. */
export function readAtMost(view: DataView, offset: number): number {
  const value = joinU64(view.getUint32(offset), view.getUint32(offset + 4));
  return Math.min(value, Number.MAX_SAFE_INTEGER);
}

/** The same, but what is above and no rounding changes is read as it is. */
export function readExact(view: DataView, offset: number): number {
  const value = joinU64(view.getUint32(offset), view.getUint32(offset + 4));
  return BigInt(value) === view.getBigUint64(offset) ? value : Number.MAX_SAFE_INTEGER;
}

/** By so much at most a 64-bit number is rounded. */
const ROUNDING = 2048;

/** The same; what is above is exact where it can be, or else aligned as it is, up to 2 KiB. */
export function readFar(view: DataView, offset: number): number {
  const low = view.getUint32(offset + 4);
  const value = joinU64(view.getUint32(offset), low);
  const rest = low % ROUNDING;
  return value % ROUNDING === rest ? value : 2 ** 52 + rest;
}

export function writeU64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, Math.floor(value / 0x1_0000_0000));
  view.setUint32(offset + 4, value % 0x1_0000_0000);
}

type ReadNumber = (view: DataView, offset: number, what: string) => number;

/**
 * Fields that lie past the end of `bytes` read as zero (a shorter, older header). `readerOf` says
 * what becomes of numbers above 2^53 - 1.
 */
export function readFields<T extends Record<string, Field>>(
  table: T,
  bytes: Uint8Array,
  readerOf: (name: string) => ReadNumber = () => readU64,
): FieldValues<T> {
  const view = viewOf(bytes);
  const values: Record<string, number | bigint> = {};
  for (const [name, field] of Object.entries(table)) {
    const present = field.offset + field.bits / 8 <= bytes.length;
    if (field.as === 'flags') values[name] = present ? view.getBigUint64(field.offset) : 0n;
    else if (!present) values[name] = 0;
    else if (field.bits === 32) values[name] = view.getUint32(field.offset);
    else values[name] = readerOf(name)(view, field.offset, name);
  }
  return values as FieldValues<T>;
}

export function writeField(bytes: Uint8Array, field: Field, value: number | bigint): void {
  const view = viewOf(bytes);
  if (typeof value === 'bigint') view.setBigUint64(field.offset, value);
  else if (field.bits === 32) view.setUint32(field.offset, value);
  else writeU64(view, field.offset, value);
}
