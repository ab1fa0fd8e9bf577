// Modes of operation over AES, for whole sectors. All are built on a block cipher that takes many
// blocks in one call: a call for each sector costs several times the encryption itself.

import type { BlockCipher } from '../../io/host.ts';
import { SECTOR } from '../../units.ts';
import { viewOf } from '../fields.ts';
import { BLOCK, type InitialVectors } from './initial-vectors.ts';

/** Both take whole sectors, the first of them number `first`, and leave their argument alone. */
export interface SectorCipher {
  encrypt(first: number, plain: Uint8Array): Uint8Array;
  decrypt(first: number, stored: Uint8Array): Uint8Array;
}

export interface BlockCiphers {
  readonly encrypt: BlockCipher;
  readonly decrypt: BlockCipher;
}

const BLOCKS = SECTOR / BLOCK;

/** Each block by itself. */
export function ecb({ encrypt, decrypt }: BlockCiphers): SectorCipher {
  return {
    encrypt: (_first, plain) => encrypt(plain),
    decrypt: (_first, stored) => decrypt(stored),
  };
}

/** XTS (IEEE 1619): each block between two masks of its own. `tweak`: encrypts by the second key. */
export function xts(
  { encrypt, decrypt }: BlockCiphers,
  tweak: BlockCipher,
  vectors: InitialVectors,
): SectorCipher {
  const between = (cipher: BlockCipher, first: number, bytes: Uint8Array): Uint8Array => {
    const masks = xtsMasks(tweak(vectors(first, bytes.length / SECTOR)));
    // Not slice(): of a Buffer, that is no copy.
    const input = new Uint8Array(bytes);
    xor(input, masks);
    const output = cipher(input);
    xor(output, masks);
    return output;
  };
  return {
    encrypt: (first, plain) => between(encrypt, first, plain),
    decrypt: (first, stored) => between(decrypt, first, stored),
  };
}

/** Of a sector's blocks: its tweak, multiplied by x in GF(2^128) once more for each block. */
function xtsMasks(tweaks: Uint8Array): Uint8Array {
  const masks = new Uint8Array(tweaks.length * BLOCKS);
  const from = viewOf(tweaks);
  const to = viewOf(masks);
  let at = 0;
  for (let tweak = 0; tweak < tweaks.length; tweak += BLOCK) {
    let a = from.getInt32(tweak, true);
    let b = from.getInt32(tweak + 4, true);
    let c = from.getInt32(tweak + 8, true);
    let d = from.getInt32(tweak + 12, true);
    for (let block = 0; block < BLOCKS; block++) {
      to.setInt32(at, a, true);
      to.setInt32(at + 4, b, true);
      to.setInt32(at + 8, c, true);
      to.setInt32(at + 12, d, true);
      at += BLOCK;
      const carry = (d >> 31) & 0x87;
      d = (d << 1) | (c >>> 31);
      c = (c << 1) | (b >>> 31);
      b = (b << 1) | (a >>> 31);
      a = (a << 1) ^ carry;
    }
  }
  return masks;
}

/** CBC, anew for each sector. */
export function cbc({ encrypt, decrypt }: BlockCiphers, vectors: InitialVectors): SectorCipher {
  return {
    encrypt: (first, plain) => cbcEncrypt(encrypt, vectors(first, plain.length / SECTOR), plain),
    decrypt(first, stored) {
      const previous = shifted(vectors(first, stored.length / SECTOR), stored);
      const output = decrypt(stored);
      xor(output, previous);
      return output;
    },
  };
}

/** For each block the stored one before it; for the first of a sector, its vector. */
function shifted(vectors: Uint8Array, stored: Uint8Array): Uint8Array {
  const previous = new Uint8Array(stored.length);
  previous.set(stored.subarray(0, stored.length - BLOCK), BLOCK);
  for (let sector = 0; sector * SECTOR < stored.length; sector++) {
    const vector = vectors.subarray(sector * BLOCK, (sector + 1) * BLOCK);
    previous.set(vector, sector * SECTOR);
  }
  return previous;
}

/** Blocks of one sector depend on each other, those of different sectors do not. */
function cbcEncrypt(encrypt: BlockCipher, vectors: Uint8Array, plain: Uint8Array): Uint8Array {
  const sectors = plain.length / SECTOR;
  const stored = new Uint8Array(plain.length);
  const column = new Uint8Array(sectors * BLOCK);
  let previous = vectors;
  for (let block = 0; block < BLOCKS; block++) {
    for (let sector = 0; sector < sectors; sector++) {
      const start = sector * SECTOR + block * BLOCK;
      column.set(plain.subarray(start, start + BLOCK), sector * BLOCK);
    }
    xor(column, previous);
    previous = encrypt(column);
    for (let sector = 0; sector < sectors; sector++) {
      const done = previous.subarray(sector * BLOCK, (sector + 1) * BLOCK);
      stored.set(done, sector * SECTOR + block * BLOCK);
    }
  }
  return stored;
}

/** CTR, anew for each sector: its vector is the first value of a big-endian counter. */
export function ctr(encrypt: BlockCipher, vectors: InitialVectors): SectorCipher {
  const apply = (first: number, bytes: Uint8Array): Uint8Array => {
    const output = encrypt(counters(vectors(first, bytes.length / SECTOR)));
    xor(output, bytes);
    return output;
  };
  return { encrypt: apply, decrypt: apply };
}

function counters(vectors: Uint8Array): Uint8Array {
  const blocks = new Uint8Array(vectors.length * BLOCKS);
  const counter = new Uint8Array(BLOCK);
  for (let block = 0; block * BLOCK < blocks.length; block++) {
    const sector = Math.floor(block / BLOCKS);
    if (block % BLOCKS === 0) counter.set(vectors.subarray(sector * BLOCK, (sector + 1) * BLOCK));
    blocks.set(counter, block * BLOCK);
    for (let i = BLOCK - 1; i >= 0; i--) {
      counter[i] = (counter[i] ?? 0) + 1;
      if (counter[i] !== 0) break;
    }
  }
  return blocks;
}

/** `target` becomes itself xor `other`, which is as long; lengths are multiples of four. */
export function xor(target: Uint8Array, other: Uint8Array): void {
  if (target.byteOffset % 4 !== 0 || other.byteOffset % 4 !== 0) {
    for (let i = 0; i < target.length; i++) target[i] = (target[i] ?? 0) ^ (other[i] ?? 0);
    return;
  }
  const words = new Int32Array(target.buffer, target.byteOffset, target.length / 4);
  const others = new Int32Array(other.buffer, other.byteOffset, other.length / 4);
  for (let i = 0; i < words.length; i++) words[i] = (words[i] ?? 0) ^ (others[i] ?? 0);
}
