// Refcounts as the file has them, read for a check: nothing is believed, broken pointers to
// refcount blocks give "unreadable" and no error.

import type { Storage } from '../io/storage.ts';
import { viewOf } from './fields.ts';
import { type Geometry, refcountTableIndexOf } from './geometry.ts';
import { getRefcount } from './refcount.ts';
import { entryHex, readTable } from './reference-walk.ts';
import { MAX_READABLE_OFFSET } from './spec.ts';

/** A count that is no safe integer comes as a bigint. */
export type StoredRefcount = number | bigint | 'unreadable';

/** Blocks in memory. */
const CACHE_BYTES = 8 * 1024 * 1024;

/**
 * Bits 9..63: a refcount table entry has no flags at its upper end. Not exact above 2^61; whether
 * it is aligned, the low half says.
 */
export function refcountBlockOffset(high: number, low: number): number {
  return high * 0x1_0000_0000 + (low - (low % 512));
}

export class StoredRefcounts {
  readonly #storage: Storage;
  readonly #geometry: Geometry;
  readonly #table: DataView;
  readonly #unaligned: (message: string) => void;
  /** By index in the refcount table; a Map keeps the order in which they were read. */
  readonly #blocks = new Map<number, Uint8Array | 'unreadable' | null>();
  #lastIndex = -1;
  #last: Uint8Array | 'unreadable' | null = null;
  #told = false;

  /** `unaligned` hears, once, of a block that is not aligned, in QEMU's words. */
  constructor(
    storage: Storage,
    geometry: Geometry,
    table: Uint8Array,
    unaligned: (message: string) => void,
  ) {
    this.#storage = storage;
    this.#geometry = geometry;
    this.#table = viewOf(table);
    this.#unaligned = unaligned;
  }

  async get(cluster: number): Promise<StoredRefcount> {
    const block = await this.block(refcountTableIndexOf(cluster, this.#geometry));
    return this.getIn(block, cluster % this.#geometry.refcountBlockEntries);
  }

  /** The same without waiting, where it lies in the block that was looked at last; else undefined. */
  atHand(cluster: number): StoredRefcount | undefined {
    if (refcountTableIndexOf(cluster, this.#geometry) !== this.#lastIndex) return undefined;
    return this.getIn(this.#last, cluster % this.#geometry.refcountBlockEntries);
  }

  getIn(block: Uint8Array | 'unreadable' | null, within: number): StoredRefcount {
    if (block === null) return 0;
    if (block === 'unreadable') return block;
    const { refcountOrder } = this.#geometry;
    if (refcountOrder < 6) return getRefcount(block, within, refcountOrder);
    const exact = viewOf(block).getBigUint64(within * 8);
    return exact > Number.MAX_SAFE_INTEGER ? exact : Number(exact);
  }

  /** The refcount block with that index; null where there is none: all counts are 0. */
  async block(index: number): Promise<Uint8Array | 'unreadable' | null> {
    if (index === this.#lastIndex) return this.#last;
    let block = this.#blocks.get(index);
    if (block === undefined) {
      block = await this.#load(index);
      this.#blocks.set(index, block);
      if (this.#blocks.size * this.#geometry.clusterSize > CACHE_BYTES) {
        this.#blocks.delete(this.#blocks.keys().next().value ?? 0);
      }
    }
    this.#lastIndex = index;
    this.#last = block;
    return block;
  }

  /** Where the block lies that `block` gives. */
  blockOffset(index: number): number {
    return refcountBlockOffset(
      this.#table.getUint32(index * 8),
      this.#table.getUint32(index * 8 + 4),
    );
  }

  async #load(index: number): Promise<Uint8Array | 'unreadable' | null> {
    if (index * 8 >= this.#table.byteLength) return null;
    const high = this.#table.getUint32(index * 8);
    const low = this.#table.getUint32(index * 8 + 4);
    const offset = refcountBlockOffset(high, low);
    if (offset === 0) return null;
    const { clusterSize } = this.#geometry;
    if ((low - (low % 512)) % clusterSize !== 0) {
      if (!this.#told) this.#unaligned(unalignedMessage(entryHex(high, low & ~0x1ff), index));
      this.#told = true;
      return 'unreadable';
    }
    if (offset > MAX_READABLE_OFFSET - clusterSize) return 'unreadable';
    return readTable(this.#storage, offset, clusterSize);
  }
}

function unalignedMessage(offset: string, index: number): string {
  return (
    `qcow2: Image is corrupt: Refblock offset 0x${offset} unaligned (reftable index: ` +
    `${index === 0 ? '0' : `0x${index.toString(16)}`}); further non-fatal corruption events will ` +
    'be suppressed'
  );
}
