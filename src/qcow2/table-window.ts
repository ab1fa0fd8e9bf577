// L2 tables that are looked at once, one after the other: neighbours in the file come in one read, and
// nothing is made for each of them. Reads ahead, so that it is for files that nobody writes to.

import type { Storage } from '../io/storage.ts';
import { alignDown, KIB, MIB } from '../units.ts';
import { viewOf } from './fields.ts';

/** A table in memory that is used again: whoever looks at it keeps nothing of it. */
export interface ScannedTable {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

interface Slot extends ScannedTable {
  offset: number;
}

/** What is read at least: no file system has less at hand. */
const LEAST_BYTES = 4 * KIB;
/** A read costs about as much by itself as so many bytes that it brings. */
const READ_COST = 32 * KIB;
export const WINDOW_BYTES = MIB;

/** An aligned part of the file, larger while neighbours are asked for and smaller when not. */
export class TableWindow {
  readonly #storage: Storage;
  readonly #tableSize: number;
  readonly #most: number;
  readonly #least: number;
  #size: number;
  #from = 0;
  /** Of what is there; empty: nothing is. */
  #end = 0;
  /** Tables of it that were looked at. */
  #used = 0;
  #buffer = new Uint8Array(0);
  /** One for each table that the buffer has room for, made when first looked at. */
  #slots: Slot[] = [];
  #isLoading = false;

  /** `mostBytes`: of memory, should a table not be larger. */
  constructor(storage: Storage, tableSize: number, mostBytes = WINDOW_BYTES) {
    this.#storage = storage;
    this.#tableSize = tableSize;
    this.#most = Math.max(tableSize, 2 ** Math.floor(Math.log2(mostBytes)));
    this.#least = Math.min(this.#most, Math.max(tableSize, LEAST_BYTES));
    this.#size = this.#least;
  }

  /** The table at `offset`, where it is at hand; valid until anybody asks for another one. */
  at(offset: number): ScannedTable | undefined {
    if (offset < this.#from || offset + this.#tableSize > this.#end) return undefined;
    if (this.#storage.writable) this.#end = 0;
    if (this.#end === 0 || this.#isLoading || offset % this.#tableSize !== 0) return undefined;
    this.#used++;
    const index = (offset - this.#from) / this.#tableSize;
    const slot = this.#slots[index] ?? this.#newSlot(index);
    slot.offset = offset;
    return slot;
  }

  /** The same, read where it is not; undefined where it has to be read by itself. */
  async fetch(offset: number): Promise<ScannedTable | undefined> {
    const { writable, size, event } = this.#storage;
    // Who hears of each table gets each by itself.
    const isApart = event !== undefined || offset % this.#tableSize !== 0;
    if (writable || this.#isLoading || isApart || offset + this.#tableSize > size) return undefined;
    this.#adapt(offset);
    const from = alignDown(offset, this.#size);
    const end = Math.min(from + this.#size, size);
    this.#isLoading = true;
    try {
      await this.#storage.read(from, this.#room().subarray(0, end - from));
    } catch {
      // Perhaps it is a neighbour that can't be read.
      this.#end = 0;
      return undefined;
    } finally {
      this.#isLoading = false;
    }
    this.#from = from;
    // Should the file have been cut meanwhile, what is past its end is not there.
    this.#end = Math.min(end, this.#storage.size);
    this.#used = 0;
    return this.at(offset);
  }

  #adapt(offset: number): void {
    const isNear = offset < this.#end + this.#size && offset >= this.#from - this.#size;
    const isCheaper = this.#used * (this.#tableSize + READ_COST) >= this.#end - this.#from;
    if (isNear && isCheaper) this.#size = Math.min(this.#size * 2, this.#most);
    else this.#size = Math.max(this.#size / 2, this.#least);
  }

  #room(): Uint8Array {
    if (this.#buffer.length < this.#size) {
      this.#buffer = new Uint8Array(this.#size);
      this.#slots = [];
    }
    return this.#buffer;
  }

  #newSlot(index: number): Slot {
    const start = index * this.#tableSize;
    const bytes = this.#buffer.subarray(start, start + this.#tableSize);
    const slot = { offset: 0, bytes, view: viewOf(bytes) };
    this.#slots[index] = slot;
    return slot;
  }
}
