// How much an image's file would grow by a series of writes: counted from its map, nothing changed.

import { divideUp } from '../units.ts';
import type { BitmapGrowth } from './bitmap-growth.ts';
import { clusterIndexOf, l1EntriesFor, l1IndexOf, l2IndexOf } from './geometry.ts';
import { l2EntryAt } from './l2-table.ts';
import type { MapContext } from './mapping.ts';
import { getRefcount } from './refcount.ts';

export class GrowthCounter {
  readonly #context: MapContext;
  #clusters = 0;
  /** Clusters of what has to lie in one piece. */
  readonly #pieces: number[] = [];
  readonly #bitmaps: BitmapGrowth;
  #countedTo = 0;
  #tablesTo = 0;

  constructor(context: MapContext, bitmaps: BitmapGrowth) {
    this.#context = context;
    this.#bitmaps = bitmaps;
  }

  /**
   * A write of data to the range; ranges come in ascending order. `anew`: also clusters that have a
   * place in the file get another one.
   */
  async addData(offset: number, length: number, anew = false): Promise<void> {
    await this.addTables(offset, length);
    if (this.#context.geometry.externalData) return;
    const { geometry, tables } = this.#context;
    const end = clusterIndexOf(offset + length - 1, geometry) + 1;
    let cluster = Math.max(this.#countedTo, clusterIndexOf(offset, geometry));
    this.#countedTo = Math.max(this.#countedTo, end);
    while (cluster < end) {
      const guest = cluster * geometry.clusterSize;
      const l1Index = l1IndexOf(guest, geometry);
      const stop = Math.min(end, (l1Index + 1) * geometry.l2Entries);
      const l2 = l1Index < tables.l1Entries ? tables.l1Entry(l1Index).offset : 0;
      if (l2 === 0 || anew) this.#clusters += stop - cluster;
      else this.#clusters += await this.#countNew(l2, cluster, stop);
      cluster = stop;
    }
  }

  async #countNew(l2: number, from: number, to: number): Promise<number> {
    const { geometry, tables, version } = this.#context;
    const table = await tables.l2Table(l2);
    let count = 0;
    for (let cluster = from; cluster < to; cluster++) {
      const index = l2IndexOf(cluster * geometry.clusterSize, geometry);
      const entry = l2EntryAt(table, index, geometry, version);
      const own = (entry.kind === 'data' || entry.kind === 'zero') && entry.copied;
      if (!own || entry.host === null) count++;
    }
    return count;
  }

  /** A change of the map alone (zero clusters) in the range. */
  async addTables(offset: number, length: number): Promise<void> {
    this.#bitmaps.add(offset, length);
    const { geometry, tables } = this.#context;
    const end = l1IndexOf(offset + length - 1, geometry) + 1;
    for (let i = Math.max(this.#tablesTo, l1IndexOf(offset, geometry)); i < end; i++) {
      const entry = i < tables.l1Entries ? tables.l1Entry(i) : undefined;
      if (entry === undefined || entry.offset === 0 || !entry.copied) this.#clusters++;
    }
    this.#tablesTo = Math.max(this.#tablesTo, end);
    if (geometry.extendedL2) {
      await this.#countCompressed(offset);
      await this.#countCompressed(offset + length);
    }
  }

  /** A part of a compressed cluster has no zero flag: all of it becomes data. */
  async #countCompressed(border: number): Promise<void> {
    const { geometry, tables, version } = this.#context;
    const cluster = clusterIndexOf(border, geometry);
    const l1Index = l1IndexOf(border, geometry);
    if (border % geometry.clusterSize === 0 || cluster < this.#countedTo) return;
    const l2 = l1Index < tables.l1Entries ? tables.l1Entry(l1Index).offset : 0;
    if (l2 === 0) return;
    const index = l2IndexOf(border, geometry);
    const { kind } = l2EntryAt(await tables.l2Table(l2), index, geometry, version);
    if (kind !== 'compressed') return;
    this.#clusters++;
    this.#countedTo = cluster + 1;
  }

  /** The L1 table of a disk of `size` bytes, where it has to move for that. */
  addL1(size: number): void {
    const { geometry, tables } = this.#context;
    const entries = l1EntriesFor(size, geometry);
    if (entries <= tables.l1Entries) return;
    this.#pieces.push(divideUp(entries * 8, geometry.clusterSize));
  }

  /**
   * Bytes of new clusters, at most, with the refcount blocks and the larger refcount table that they
   * need. `covered`: free clusters that have a place in refcount blocks already.
   */
  async bytes(covered = 0): Promise<number> {
    const { geometry, tables } = this.#context;
    const perBlock = geometry.refcountBlockEntries - 1;
    // One piece may find no room among those that are free: it goes behind all refcount blocks.
    const all = [...this.#pieces, ...this.#bitmaps.pieces];
    const pieces = all.filter((count) => count > 1);
    const piece = pieces.reduce((sum, count) => sum + count, 0);
    const single = this.#clusters + this.#bitmaps.clusters + (all.length - pieces.length);
    const clusters = single + piece;
    const uncovered = Math.max(0, single - covered) + piece;
    if (clusters === 0) return 0;
    await tables.loadRefcountTable();
    let blocks = uncovered === 0 ? 0 : divideUp(uncovered, perBlock) + pieces.length;
    const blocksInAll = tables.refcountBlocksEnd + blocks;
    let table = 0;
    if (blocksInAll > tables.refcountTableEntries) {
      // It grows by half each time; until a checkpoint the ones before take space too.
      table = 3 * divideUp((blocksInAll * 1.5 + 1) * 8, geometry.clusterSize);
      blocks += divideUp(table, perBlock) + 1;
    }
    return (clusters + blocks + table) * geometry.clusterSize;
  }
}

/** Clusters with refcount 0 that refcount blocks cover. */
export interface FreeClusters {
  readonly inFile: number;
  /** Behind the end of the file. */
  readonly beyond: number;
}

export async function countFree(context: MapContext, fileSize: number): Promise<FreeClusters> {
  const { geometry, tables } = context;
  const { refcountBlockEntries, refcountOrder, clusterSize } = geometry;
  const clustersInFile = Math.floor(fileSize / clusterSize);
  const end = Math.max(clustersInFile, tables.refcountBlocksEnd * refcountBlockEntries);
  let inFile = 0;
  let beyond = 0;
  for (let first = 0; first < end; first += refcountBlockEntries) {
    const block = await tables.refcountBlock(first / refcountBlockEntries);
    for (let within = 0; within < refcountBlockEntries; within++) {
      if (block !== null && getRefcount(block.bytes, within, refcountOrder) !== 0) continue;
      if (first + within < clustersInFile) inFile++;
      else if (block !== null) beyond++;
    }
  }
  return { inFile, beyond };
}
