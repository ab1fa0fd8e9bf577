// L2 tables and refcount blocks in memory: least recently used ones go first, dirty ones stay.

import { assert } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { CorruptionError } from './corruption.ts';
import { pastEnd } from './directory.ts';
import { viewOf } from './fields.ts';
import { type ScannedTable, TableWindow, WINDOW_BYTES } from './table-window.ts';

export interface Table extends ScannedTable {
  readonly kind: 'l2' | 'refcount-block';
  /** Nothing durable points to it yet. */
  fresh: boolean;
  /** L2 tables: their refcount was found to be one, so they may be written in place. */
  checked: boolean;
  /** The part that differs from the file: from, to; empty when equal. */
  dirtyFrom: number;
  dirtyTo: number;
}

/** A table on its way from the file. */
interface Loading {
  /** False once the table was let go of. */
  wanted: boolean;
}

const WORDS = { l2: 'an L2 table', 'refcount-block': 'a refcount block' } as const;

function newTable(offset: number, kind: Table['kind'], bytes: Uint8Array, fresh: boolean): Table {
  const view = viewOf(bytes);
  return { offset, kind, bytes, view, fresh, checked: false, dirtyFrom: 0, dirtyTo: 0 };
}

/** A cache never gets so small that one operation could not hold the tables that it works on. */
const MINIMUM_TABLES = 8;
/** Bytes. */
const PIECE = 16 * 1024;

export class TableCache {
  readonly #storage: Storage;
  readonly #tableSize: number;
  readonly #bound: number;
  /** In order of use: a Map keeps insertion order, a table in use is inserted anew. */
  readonly #tables = new Map<number, Table>();
  /** Goes on from the oldest one: whatever lies before it is gone. */
  #byAge = this.#tables.entries();
  /** What is left of the last one. */
  #piece = new Uint8Array(0);
  readonly #loading = new Map<
    number,
    { readonly table: Promise<Table>; readonly loading: Loading }
  >();
  readonly #dirty = new Set<Table>();
  /** Memory for tables that are looked at once. */
  readonly #scratch: Uint8Array[] = [];
  readonly #window: TableWindow;

  constructor(storage: Storage, tableSize: number, boundBytes: number) {
    this.#storage = storage;
    this.#tableSize = tableSize;
    this.#bound = Math.max(boundBytes, MINIMUM_TABLES * tableSize);
    this.#window = new TableWindow(storage, tableSize, Math.min(WINDOW_BYTES, this.#bound / 8));
  }

  get dirtyBytes(): number {
    return this.#dirty.size * this.#tableSize;
  }

  get dirtyBound(): number {
    return this.#bound / 2;
  }

  /** The table at that offset; at once where it is cached. */
  load(offset: number, kind: Table['kind']): Promise<Table> | Table {
    const cached = this.#tables.get(offset);
    if (cached !== undefined) {
      this.#checkKind(cached, kind);
      this.#tables.delete(offset);
      this.#tables.set(offset, cached);
      return cached;
    }
    const pending = this.#loading.get(offset);
    if (pending !== undefined) {
      return pending.table.then((table) => {
        this.#checkKind(table, kind);
        return table;
      });
    }
    const loading = { wanted: true };
    const table = this.#read(offset, kind, loading);
    this.#loading.set(offset, { table, loading });
    return table;
  }

  /** One that was read ahead, to be looked at before anybody waits. */
  ahead(offset: number): ScannedTable | undefined {
    return this.#tables.has(offset) ? undefined : this.#window.at(offset);
  }

  /**
   * `look` at a table as a whole, once: the cache stays as it is where it is full or neighbours are
   * read ahead, and memory is used again. `look` keeps nothing of it, and does not wait.
   */
  async scan<T>(offset: number, kind: Table['kind'], look: (table: ScannedTable) => T): Promise<T> {
    const isKnown = this.#tables.has(offset) || this.#loading.has(offset);
    const ahead = isKnown ? undefined : await this.#window.fetch(offset);
    if (ahead !== undefined) return look(this.#tables.get(offset) ?? ahead);
    const isFull = (this.#tables.size + 1) * this.#tableSize > this.#bound;
    if (!isFull || this.#tables.has(offset) || this.#loading.has(offset)) {
      return look(await this.load(offset, kind));
    }
    const bytes = this.#scratch.pop() ?? new Uint8Array(this.#tableSize);
    try {
      await this.#fill(offset, kind, bytes);
      // Somebody may have loaded it meanwhile, and changed it.
      return look(this.#tables.get(offset) ?? newTable(offset, kind, bytes, false));
    } finally {
      this.#scratch.push(bytes);
    }
  }

  async #fill(offset: number, kind: Table['kind'], bytes: Uint8Array): Promise<void> {
    this.#storage.event?.(kind === 'l2' ? 'l2_load' : 'refblock_load');
    await this.#storage.read(offset, bytes);
    // What is missing where a file was cut short would read as "nothing here".
    if (offset + this.#tableSize > this.#storage.size) {
      throw pastEnd(this.#storage, WORDS[kind], offset);
    }
  }

  async #read(offset: number, kind: Table['kind'], loading: Loading): Promise<Table> {
    const bytes = this.#room();
    try {
      await this.#fill(offset, kind, bytes);
    } finally {
      if (loading.wanted) this.#loading.delete(offset);
    }
    const table = newTable(offset, kind, bytes, false);
    // Let go of meanwhile: whoever asked gets it, but its place may be another table's by now.
    if (loading.wanted) this.#insert(table);
    return table;
  }

  /** Small tables come out of larger pieces of memory: those cost as much each. */
  #room(): Uint8Array {
    const size = this.#tableSize;
    if (size > PIECE / 2) return new Uint8Array(size);
    if (this.#piece.length < size) this.#piece = new Uint8Array(PIECE);
    const bytes = this.#piece.subarray(0, size);
    this.#piece = this.#piece.subarray(size);
    return bytes;
  }

  /** A table that is not in the file yet: zeros, or a copy of `content`. All of it is dirty. */
  create(offset: number, kind: Table['kind'], content?: Uint8Array): Table {
    const bytes = content === undefined ? new Uint8Array(this.#tableSize) : content.slice();
    if (content !== undefined) this.#storage.event?.('l2_alloc_cow_read');
    this.#storage.event?.(kind === 'l2' ? 'l2_alloc_write' : 'refblock_alloc_write');
    this.#stopLoading(offset);
    const table = newTable(offset, kind, bytes, true);
    this.#insert(table);
    this.touch(table, 0, this.#tableSize);
    return table;
  }

  #checkKind({ kind, offset }: Table, wanted: Table['kind']): void {
    if (kind === wanted) return;
    throw new CorruptionError(
      this.#storage,
      `${WORDS[wanted]} and ${WORDS[kind]} lie at the same offset 0x${offset.toString(16)}`,
    );
  }

  #stopLoading(offset: number): void {
    const pending = this.#loading.get(offset);
    if (pending !== undefined) pending.loading.wanted = false;
    this.#loading.delete(offset);
  }

  #insert(table: Table): void {
    this.#tables.set(table.offset, table);
    this.#evict();
  }

  #evict(): void {
    // A dirty table met on the way goes to the young end, so that it is not met at each eviction.
    // The youngest of all is the one that somebody is about to use: it stays.
    for (let left = this.#tables.size - 1; left > 0; left--) {
      if (this.#tables.size * this.#tableSize <= this.#bound) return;
      const [offset, table] = this.#oldest();
      this.#tables.delete(offset);
      if (this.#dirty.has(table)) this.#tables.set(offset, table);
    }
  }

  /** A Map that lost many entries at its old end takes long to find the first of those that are left. */
  #oldest(): readonly [number, Table] {
    let next = this.#byAge.next();
    if (next.done) {
      this.#byAge = this.#tables.entries();
      next = this.#byAge.next();
    }
    assert(!next.done, 'an empty cache is too large');
    return next.value;
  }

  touch(table: Table, position: number, length: number): void {
    // A table that was evicted while its user waited comes back with the user's change. What is in
    // its place by now is a clean copy of it: only the user, who holds the queue, makes it dirty.
    const inPlace = this.#tables.get(table.offset);
    if (inPlace !== table) {
      assert(!inPlace || !this.#dirty.has(inPlace), 'two changed copies of one table');
      this.#stopLoading(table.offset);
      this.#tables.set(table.offset, table);
    }
    if (table.dirtyTo === 0) table.dirtyFrom = position;
    table.dirtyFrom = Math.min(table.dirtyFrom, position);
    table.dirtyTo = Math.max(table.dirtyTo, position + length);
    this.#dirty.add(table);
  }

  forget(offset: number): void {
    this.#stopLoading(offset);
    const table = this.#tables.get(offset);
    if (table === undefined) return;
    this.#tables.delete(offset);
    this.#dirty.delete(table);
  }

  /** Writes the dirty tables that `select` picks, in file order; true if there were any. */
  async write(select: (table: Table) => boolean): Promise<boolean> {
    const tables = [...this.#dirty].filter(select).sort((a, b) => a.offset - b.offset);
    for (const table of tables) {
      const part = table.bytes.subarray(table.dirtyFrom, table.dirtyTo);
      this.#storage.event?.(table.kind === 'l2' ? 'l2_update' : 'refblock_update_part');
      await this.#storage.write(table.offset + table.dirtyFrom, part, table.kind);
    }
    return tables.length > 0;
  }

  /** What was written is durable now: those tables are clean, and reachable ones no longer fresh. */
  settle(select: (table: Table) => boolean): void {
    for (const table of this.#dirty) {
      if (!select(table)) continue;
      table.dirtyFrom = 0;
      table.dirtyTo = 0;
      table.fresh = false;
      this.#dirty.delete(table);
    }
    this.#evict();
  }
}
