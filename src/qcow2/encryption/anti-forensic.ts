// The anti-forensic splitter of LUKS: a key as many stripes of its size, of which none must be
// missing, so that destroying any of them destroys the key.

import type { Crypto, HashName } from '../../io/host.ts';
import { viewOf } from '../fields.ts';
import { DIGEST_BYTES } from './cipher-spec.ts';

export function splitKey(
  crypto: Crypto,
  hash: HashName,
  key: Uint8Array,
  stripes: number,
): Uint8Array {
  const length = key.length;
  const material = new Uint8Array(length * stripes);
  material.set(crypto.randomBytes(length * (stripes - 1)));
  const last = digestOfStripes(crypto, hash, material, length, stripes);
  for (let i = 0; i < length; i++) last[i] = (last[i] ?? 0) ^ (key[i] ?? 0);
  material.set(last, length * (stripes - 1));
  return material;
}

export function mergeKey(
  crypto: Crypto,
  hash: HashName,
  material: Uint8Array,
  stripes: number,
): Uint8Array {
  const length = material.length / stripes;
  const key = digestOfStripes(crypto, hash, material, length, stripes);
  const last = material.subarray(length * (stripes - 1));
  for (let i = 0; i < length; i++) key[i] = (key[i] ?? 0) ^ (last[i] ?? 0);
  return key;
}

/** Of all stripes but the last. */
function digestOfStripes(
  crypto: Crypto,
  hash: HashName,
  material: Uint8Array,
  length: number,
  stripes: number,
): Uint8Array {
  const block = new Uint8Array(length);
  for (let stripe = 0; stripe < stripes - 1; stripe++) {
    const start = stripe * length;
    for (let i = 0; i < length; i++) block[i] = (block[i] ?? 0) ^ (material[start + i] ?? 0);
    diffuse(crypto, hash, block);
  }
  return block;
}

/** Each piece of the digest's length becomes the digest of its number and itself. */
function diffuse(crypto: Crypto, hash: HashName, block: Uint8Array): void {
  const size = DIGEST_BYTES[hash];
  for (let number = 0; number * size < block.length; number++) {
    const piece = block.subarray(number * size, (number + 1) * size);
    const input = new Uint8Array(4 + piece.length);
    viewOf(input).setUint32(0, number);
    input.set(piece, 4);
    piece.set(crypto.hash(hash, input).subarray(0, piece.length));
  }
}
