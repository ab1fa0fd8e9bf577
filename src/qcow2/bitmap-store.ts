// Writes a new version of a persistent bitmap beside the old one: changed clusters of bits and the
// table go to new places, unchanged clusters are shared. The directory that names the new table is
// what makes it count (bitmap-publish.ts); until then nothing points to what is written here.

import type { Storage, WriteKind } from '../io/storage.ts';
import { divideUp } from '../units.ts';
import { type Bits, clearBitsFrom, setBits } from './bitmap-bits.ts';
import { type BitmapEntry, bitmapDiskSize, bitmapTableEntries } from './bitmap-directory.ts';
import { ALL_ONES, ALL_ZEROS, readBitmapTable } from './bitmap-table.ts';
import { viewOf, writeU64 } from './fields.ts';
import type { PlaceContext } from './place.ts';

/** What a bitmap is to hold. */
export interface BitmapContent {
  readonly granularity: number;
  /** Bits that are kept; null: none. */
  readonly kept: BitmapEntry | null;
  /** Size of the disk that `kept` was stored for. */
  readonly keptSize: number;
  /** Bits in addition. */
  readonly added: readonly Bits[];
}

export interface StoredTable {
  readonly tableOffset: number;
  readonly tableEntries: number;
}

/** Clusters: offset and count. */
export type Clusters = readonly [offset: number, count: number];

export class BitmapWriter {
  /** Taken for new versions: to be let go of where they never come to count. */
  readonly taken: Clusters[] = [];
  /** What only old versions use: to be let go of once nothing names them. */
  readonly replaced: Clusters[] = [];
  readonly #storage: Storage;
  readonly #context: PlaceContext;
  readonly #clusterSize: number;

  constructor(storage: Storage, context: PlaceContext) {
    this.#storage = storage;
    this.#context = context;
    this.#clusterSize = context.geometry.clusterSize;
  }

  /** The new version for a disk of `size` bytes. */
  async store(content: BitmapContent, size: number): Promise<StoredTable> {
    const { granularity, kept, added } = content;
    const clusterSize = this.#clusterSize;
    const table = new Float64Array(bitmapTableEntries(size, granularity, clusterSize));
    const rewrite = new Rewrite(table, granularity, clusterSize, {
      read: (place, bytes) => this.#storage.read(place, bytes),
      write: (bytes) => this.#writeNew(bytes),
      rewrite: (place, bytes) => this.#storage.write(place, bytes, 'bitmap'),
      replaced: (place) => this.replaced.push([place, 1]),
    });
    if (kept !== null) {
      const old = await readBitmapTable(this.#storage, kept, clusterSize);
      table.set(old.subarray(0, table.length));
      for (const place of old.subarray(table.length)) {
        if (place > ALL_ONES) this.replaced.push([place, 1]);
      }
      await rewrite.clearBehind(content.keptSize, size);
      this.#replaceTable(kept);
    }
    for (const bits of added) await rewrite.add(bits, size);
    return { tableOffset: await this.#writeTable(table), tableEntries: table.length };
  }

  /** Lets go of all that a bitmap uses. */
  async drop(entry: BitmapEntry): Promise<void> {
    for (const place of await readBitmapTable(this.#storage, entry, this.#clusterSize)) {
      if (place > ALL_ONES) this.replaced.push([place, 1]);
    }
    this.#replaceTable(entry);
  }

  #replaceTable({ tableOffset, tableEntries }: StoredTable): void {
    this.replaced.push([tableOffset, divideUp(tableEntries * 8, this.#clusterSize)]);
  }

  async #writeNew(bytes: Uint8Array): Promise<number> {
    const { host } = await this.#context.allocator.take(1);
    this.taken.push([host, 1]);
    await this.#storage.write(host, bytes, 'bitmap');
    return host;
  }

  /** Writes a structure to clusters of its own, in one piece; what is left of the last is zeros. */
  async writePiece(bytes: Uint8Array, kind: WriteKind): Promise<number> {
    const clusters = divideUp(bytes.length, this.#clusterSize);
    const { host } = await this.#context.allocator.takeContiguous(clusters);
    this.taken.push([host, clusters]);
    const whole = new Uint8Array(clusters * this.#clusterSize);
    whole.set(bytes);
    await this.#storage.write(host, whole, kind);
    return host;
  }

  async #writeTable(table: Float64Array): Promise<number> {
    const bytes = new Uint8Array(table.length * 8);
    const view = viewOf(bytes);
    for (const [i, place] of table.entries()) writeU64(view, i * 8, place);
    return await this.writePiece(bytes, 'bitmap');
  }

  /** Drops the references at the next checkpoint. */
  letGo(clusters: readonly Clusters[]): void {
    for (const [offset, count] of clusters) {
      this.#context.tables.free(offset / this.#clusterSize, count);
    }
  }
}

interface ClusterIo {
  read(place: number, bytes: Uint8Array): Promise<void>;
  write(bytes: Uint8Array): Promise<number>;
  rewrite(place: number, bytes: Uint8Array): Promise<void>;
  replaced(place: number): void;
}

/** Changes clusters of bits by way of a table in memory; one cluster is in memory at a time. */
class Rewrite {
  readonly #table: Float64Array;
  readonly #granularity: number;
  readonly #perEntry: number;
  readonly #bytes: Uint8Array;
  readonly #io: ClusterIo;
  /** Written by us already. */
  readonly #fresh = new Set<number>();

  constructor(table: Float64Array, granularity: number, clusterSize: number, io: ClusterIo) {
    this.#table = table;
    this.#granularity = granularity;
    this.#perEntry = clusterSize * 8;
    this.#bytes = new Uint8Array(clusterSize);
    this.#io = io;
  }

  /** Bits behind the old end of a disk that grew mean nothing yet, behind a nearer end no more. */
  async clearBehind(oldSize: number, size: number): Promise<void> {
    const [before, now] = [oldSize, size].map((each) =>
      divideUp(bitmapDiskSize(each), this.#granularity),
    ) as [number, number];
    if (before === now) return;
    const end = Math.min(before, now);
    const index = Math.floor(end / this.#perEntry);
    const within = end % this.#perEntry;
    if (within > 0 && this.#table[index] !== ALL_ZEROS) {
      await this.#load(index);
      clearBitsFrom(this.#bytes, within);
      await this.#store(index);
    }
  }

  async add(bits: Bits, size: number): Promise<void> {
    const diskSize = bitmapDiskSize(size);
    let loaded = -1;
    for (const [from, to] of bits.stretches()) {
      const end = divideUp(Math.min(to, diskSize), this.#granularity);
      for (let bit = Math.floor(from / this.#granularity); bit < end; ) {
        const index = Math.floor(bit / this.#perEntry);
        const first = index * this.#perEntry;
        const stop = Math.min(end, first + this.#perEntry);
        if (this.#table[index] !== ALL_ONES) {
          if (index !== loaded) {
            if (loaded >= 0) await this.#store(loaded);
            await this.#load(index);
            loaded = index;
          }
          setBits(this.#bytes, bit - first, stop - first);
        }
        bit = stop;
      }
    }
    if (loaded >= 0) await this.#store(loaded);
  }

  async #load(index: number): Promise<void> {
    const place = this.#table[index] ?? ALL_ZEROS;
    if (place > ALL_ONES) await this.#io.read(place, this.#bytes);
    else this.#bytes.fill(place === ALL_ONES ? 0xff : 0);
  }

  async #store(index: number): Promise<void> {
    const place = this.#table[index] ?? ALL_ZEROS;
    if (this.#fresh.has(index)) {
      await this.#io.rewrite(place, this.#bytes);
      return;
    }
    if (place > ALL_ONES) this.#io.replaced(place);
    this.#table[index] = await this.#io.write(this.#bytes);
    this.#fresh.add(index);
  }
}
