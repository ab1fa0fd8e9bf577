// Initial vectors: 16 bytes for each sector, made of its number. Pure.

import type { BlockCipher } from '../../io/host.ts';
import { viewOf } from '../fields.ts';

export const BLOCK = 16;

/** The vectors of `count` sectors from `first` on. */
export type InitialVectors = (first: number, count: number) => Uint8Array;

/** The sector's number, little-endian, in 64 bits. */
export const plain64: InitialVectors = (first, count) => numbers(first, count, true);

/** Its lower 32 bits alone. */
export const plain: InitialVectors = (first, count) => numbers(first, count, false);

/** The number encrypted by a key that is a hash of the data's key. */
export function essiv(encrypt: BlockCipher): InitialVectors {
  return (first, count) => encrypt(plain64(first, count));
}

function numbers(first: number, count: number, is64: boolean): Uint8Array {
  const vectors = new Uint8Array(count * BLOCK);
  const view = viewOf(vectors);
  for (let i = 0; i < count; i++) {
    const sector = first + i;
    view.setUint32(i * BLOCK, sector % 2 ** 32, true);
    if (is64) view.setUint32(i * BLOCK + 4, Math.floor(sector / 2 ** 32), true);
  }
  return vectors;
}
