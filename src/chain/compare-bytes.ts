// Where two pieces of a disk differ, or one is not zero: by sectors, as QEMU tells it. Pure.

import { SECTOR } from '../units.ts';

const WORD = 4;
const NO_WORDS = new Uint32Array();

/** Offset of the first sector in which `a` and `b`, of one length, differ; undefined if none. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number | undefined {
  const [wordsA, wordsB] = [wordsOf(a), wordsOf(b)];
  const words = Math.min(wordsA.length, wordsB.length);
  for (let i = 0; i < words; i++) {
    if (wordsA[i] !== wordsB[i]) return sectorOf(i * WORD);
  }
  for (let i = words * WORD; i < a.length; i++) if (a[i] !== b[i]) return sectorOf(i);
  return undefined;
}

/** Offset of the first sector with a byte that is not zero; undefined if all are. */
export function firstNonZero(bytes: Uint8Array): number | undefined {
  const words = wordsOf(bytes);
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return sectorOf(i * WORD);
  for (let i = words.length * WORD; i < bytes.length; i++) if (bytes[i]) return sectorOf(i);
  return undefined;
}

/**
 * All but the last bytes of a ragged length; none where they start between two words. Byte by byte it
 * takes four times as long.
 */
function wordsOf(bytes: Uint8Array): Uint32Array {
  if (bytes.byteOffset % WORD !== 0) return NO_WORDS;
  return new Uint32Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.length / WORD));
}

function sectorOf(position: number): number {
  return position - (position % SECTOR);
}
