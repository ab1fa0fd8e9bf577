// Entries of refcount blocks of any width, 1 to 64 bits ("Host cluster management").
// Pure: bytes in, numbers out.

import { ImageError } from '../errors.ts';
import { joinU64 } from '../units.ts';
import { viewOf, writeU64 } from './fields.ts';

/**
 * Entry `index` of a refcount block. Sub-byte entries start at the least significant bit; wider
 * ones are big-endian. Throws `corrupt` for a 64-bit count above 2^53 - 1, which no image can need.
 */
export function getRefcount(block: Uint8Array, index: number, order: number): number {
  switch (order) {
    case 0:
    case 1:
    case 2: {
      const bits = 1 << order;
      const position = index * bits;
      return ((block[position >>> 3] ?? 0) >>> (position & 7)) & ((1 << bits) - 1);
    }
    case 3:
      return block[index] ?? 0;
    case 4:
      return ((block[index * 2] ?? 0) << 8) | (block[index * 2 + 1] ?? 0);
    case 5:
      return viewOf(block).getUint32(index * 4);
    default: {
      const view = viewOf(block);
      const count = joinU64(view.getUint32(index * 8), view.getUint32(index * 8 + 4));
      if (!Number.isSafeInteger(count)) throw new ImageError('corrupt', 'refcount beyond 2^53 - 1');
      return count;
    }
  }
}

/** Sets entry `index`. `count` must fit the width: see `Geometry.maxRefcount`. */
export function setRefcount(block: Uint8Array, index: number, order: number, count: number): void {
  switch (order) {
    case 0:
    case 1:
    case 2: {
      const bits = 1 << order;
      const position = index * bits;
      const shift = position & 7;
      const mask = ((1 << bits) - 1) << shift;
      const byte = position >>> 3;
      block[byte] = ((block[byte] ?? 0) & ~mask) | (count << shift);
      return;
    }
    case 3:
      block[index] = count;
      return;
    case 4:
      block[index * 2] = count >>> 8;
      block[index * 2 + 1] = count & 0xff;
      return;
    case 5:
      viewOf(block).setUint32(index * 4, count);
      return;
    default:
      writeU64(viewOf(block), index * 8, count);
  }
}
