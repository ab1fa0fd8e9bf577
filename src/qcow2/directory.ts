// A table that lies in one piece in the file and is kept whole in memory: the L1 table, the
// refcount table. Knows which of its sectors differ from the file.

import type { Storage, WriteKind } from '../io/storage.ts';
import { alignDown, SECTOR } from '../units.ts';
import { CorruptionError } from './corruption.ts';
import { viewOf } from './fields.ts';

const ENTRY = 8;

export class Directory {
  readonly #kind: WriteKind;
  #offset: number;
  #length: number;
  /** There once it was loaded: what a header says is not believed before. */
  #bytes = new Uint8Array(0);
  /** Kept, as they are asked for with each entry. */
  #view = viewOf(this.#bytes);
  #halves = new Uint32Array(0);
  readonly #dirtySectors = new Set<number>();
  /** Lies at a new place that the header does not name yet. */
  #moved = false;

  constructor(kind: WriteKind, offset: number, length: number) {
    this.#kind = kind;
    this.#offset = offset;
    this.#length = length;
  }

  get offset(): number {
    return this.#offset;
  }

  get length(): number {
    return this.#length;
  }

  get entries(): number {
    return this.#length / ENTRY;
  }

  get moved(): boolean {
    return this.#moved;
  }

  get hasDirtySectors(): boolean {
    return this.#dirtySectors.size > 0;
  }

  get view(): DataView {
    return this.#view;
  }

  /** The entries as pairs of 32-bit halves in the machine's order: good for a test for zero alone. */
  get halves(): Uint32Array {
    return this.#halves;
  }

  /** Throws `corrupt` where the file has been cut short: what is missing would read as "nothing". */
  async load(storage: Storage, what: string): Promise<void> {
    if (this.#offset + this.#length > storage.size) {
      throw pastEnd(storage, what, this.#offset);
    }
    this.#take(new Uint8Array(this.#length));
    if (this.#kind === 'refcount-table') storage.event?.('reftable_load');
    await storage.read(this.#offset, this.#bytes);
  }

  touched(index: number): void {
    this.#dirtySectors.add(alignDown(index * ENTRY, SECTOR) / SECTOR);
  }

  /** Old entries are carried over. */
  moveTo(offset: number, length: number): void {
    const bytes = new Uint8Array(length);
    bytes.set(this.#bytes);
    this.#take(bytes);
    this.#length = length;
    this.#offset = offset;
    this.#moved = true;
  }

  #take(bytes: Uint8Array<ArrayBuffer>): void {
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
    this.#halves = new Uint32Array(bytes.buffer);
  }

  async writeAll(storage: Storage): Promise<void> {
    const isL1 = this.#kind === 'l1';
    storage.event?.(isL1 ? 'l1_grow_write_table' : 'refblock_alloc_write_table');
    await storage.write(this.#offset, this.#bytes, this.#kind);
  }

  async writeDirtySectors(storage: Storage): Promise<void> {
    const sectors = [...this.#dirtySectors].sort((a, b) => a - b);
    for (let i = 0; i < sectors.length; ) {
      const first = sectors[i] ?? 0;
      let last = first;
      while (i < sectors.length && (sectors[i] ?? 0) <= last + 1) last = sectors[i++] ?? 0;
      const start = first * SECTOR;
      const part = this.#bytes.subarray(start, (last + 1) * SECTOR);
      storage.event?.(this.#kind === 'l1' ? 'l1_update' : 'refblock_alloc_hookup');
      await storage.write(this.#offset + start, part, this.#kind);
    }
  }

  /** What was written is what the file has. */
  settle(): void {
    this.#moved = false;
    this.#dirtySectors.clear();
  }
}

/** Something that an image points to is not in its file. */
export function pastEnd(storage: Storage, what: string, offset: number): CorruptionError {
  return new CorruptionError(
    storage,
    `${what} at offset 0x${offset.toString(16)} lies past the end of the ` +
      `file (${storage.size} bytes)`,
    { hint: 'The file has been cut short; get a whole copy of it.' },
  );
}
