// Bits in memory: stretches of a disk that were changed, at some granularity. What nobody set takes
// no memory, nor does what is set as a whole.

import { divideUp } from '../units.ts';

const CHUNK_BYTES = 4096;
const CHUNK_BITS = CHUNK_BYTES * 8;
const FULL = new Uint8Array(CHUNK_BYTES).fill(0xff);

/** Bytes of the disk: from, to (the first that does not belong to it). */
export type Stretch = readonly [from: number, to: number];

export class Bits {
  readonly granularity: number;
  readonly #chunks = new Map<number, Uint8Array>();
  #owned = 0;

  constructor(granularity: number) {
    this.granularity = granularity;
  }

  get isEmpty(): boolean {
    return this.#chunks.size === 0;
  }

  /** Memory that it takes. */
  get bytes(): number {
    return this.#owned * CHUNK_BYTES;
  }

  /** Sets all bits that a stretch of the disk touches. */
  add(from: number, to: number): void {
    if (from >= to) return;
    const end = divideUp(to, this.granularity);
    for (let bit = Math.floor(from / this.granularity); bit < end; ) {
      const index = Math.floor(bit / CHUNK_BITS);
      const first = index * CHUNK_BITS;
      const stop = Math.min(end, first + CHUNK_BITS);
      this.#set(index, bit - first, stop - first);
      bit = stop;
    }
  }

  #set(index: number, from: number, to: number): void {
    let chunk = this.#chunks.get(index);
    if (chunk === FULL) return;
    if (to - from === CHUNK_BITS) {
      if (chunk !== undefined) this.#owned--;
      this.#chunks.set(index, FULL);
      return;
    }
    if (chunk === undefined) {
      chunk = new Uint8Array(CHUNK_BYTES);
      this.#chunks.set(index, chunk);
      this.#owned++;
    }
    setBits(chunk, from, to);
  }

  /** What is set, in ascending order; neighbours may touch. */
  *stretches(): Generator<Stretch> {
    const indexes = [...this.#chunks.keys()].sort((a, b) => a - b);
    for (const index of indexes) {
      const chunk = this.#chunks.get(index) ?? FULL;
      for (const [from, to] of runsOfBits(chunk, CHUNK_BITS)) {
        const first = index * CHUNK_BITS;
        yield [(first + from) * this.granularity, (first + to) * this.granularity];
      }
    }
  }
}

/** Bits are counted from the least significant one of the first byte. */
export function setBits(bytes: Uint8Array, from: number, to: number): void {
  const firstWhole = Math.ceil(from / 8);
  const endWhole = Math.floor(to / 8);
  if (firstWhole > endWhole) {
    for (let bit = from; bit < to; bit++) setBit(bytes, bit);
    return;
  }
  for (let bit = from; bit < firstWhole * 8; bit++) setBit(bytes, bit);
  bytes.fill(0xff, firstWhole, endWhole);
  for (let bit = endWhole * 8; bit < to; bit++) setBit(bytes, bit);
}

function setBit(bytes: Uint8Array, bit: number): void {
  const at = bit >> 3;
  bytes[at] = (bytes[at] ?? 0) | (1 << (bit & 7));
}

/** Clears all bits from `from` on. */
export function clearBitsFrom(bytes: Uint8Array, from: number): void {
  const at = Math.floor(from / 8);
  if (at >= bytes.length) return;
  bytes[at] = (bytes[at] ?? 0) & ((1 << (from % 8)) - 1);
  bytes.fill(0, at + 1);
}

/** Runs of ones among the first `count` bits: from, to. */
export function* runsOfBits(bytes: Uint8Array, count: number): Generator<Stretch> {
  let start = -1;
  for (let bit = 0; bit < count; ) {
    const byte = bytes[bit >> 3] ?? 0;
    if ((bit & 7) === 0 && byte === (start < 0 ? 0 : 0xff)) {
      bit += 8;
      continue;
    }
    const isSet = (byte & (1 << (bit & 7))) !== 0;
    if (isSet && start < 0) start = bit;
    else if (!isSet && start >= 0) {
      yield [start, bit];
      start = -1;
    }
    bit++;
  }
  if (start >= 0) yield [start, count];
}
