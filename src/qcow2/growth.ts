// How much an image's file would grow by a series of writes: counted from its map, nothing changed.

import { divideUp } from '../units.ts';
import { clusterIndexOf, type Geometry, l1IndexOf, l2IndexOf } from './geometry.ts';
import { decodeL2Entry } from './l2-entry.ts';
import type { MapContext } from './mapping.ts';
import { getRefcount } from './refcount.ts';

export class GrowthCounter {
  readonly #context: MapContext;
  #clusters = 0;
  #countedTo = 0;
  #tablesTo = 0;

  constructor(context: MapContext) {
    this.#context = context;
  }

  /** A write of data to the range; ranges come in ascending order. */
  async addData(offset: number, length: number): Promise<void> {
    await this.addTables(offset, length);
    const { geometry, tables } = this.#context;
    const end = clusterIndexOf(offset + length - 1, geometry) + 1;
    let cluster = Math.max(this.#countedTo, clusterIndexOf(offset, geometry));
    this.#countedTo = Math.max(this.#countedTo, end);
    while (cluster < end) {
      const guest = cluster * geometry.clusterSize;
      const l1Index = l1IndexOf(guest, geometry);
      const stop = Math.min(end, (l1Index + 1) * geometry.l2Entries);
      const l2 = l1Index < tables.l1Entries ? tables.l1Entry(l1Index).offset : 0;
      if (l2 === 0) this.#clusters += stop - cluster;
      else this.#clusters += await this.#countNew(l2, cluster, stop);
      cluster = stop;
    }
  }

  async #countNew(l2: number, from: number, to: number): Promise<number> {
    const { geometry, tables, version } = this.#context;
    const { view } = await tables.l2Table(l2);
    let count = 0;
    for (let cluster = from; cluster < to; cluster++) {
      const at = l2IndexOf(cluster * geometry.clusterSize, geometry) * geometry.l2EntryBytes;
      const high = view.getUint32(at);
      const entry = decodeL2Entry(high, view.getUint32(at + 4), geometry.clusterBits, version);
      const own = (entry.kind === 'data' || entry.kind === 'zero') && entry.copied;
      if (!own || entry.host === null) count++;
    }
    return count;
  }

  /** A change of the map alone (zero clusters) in the range. */
  async addTables(offset: number, length: number): Promise<void> {
    const { geometry, tables } = this.#context;
    const end = l1IndexOf(offset + length - 1, geometry) + 1;
    for (let i = Math.max(this.#tablesTo, l1IndexOf(offset, geometry)); i < end; i++) {
      const entry = i < tables.l1Entries ? tables.l1Entry(i) : undefined;
      if (entry === undefined || entry.offset === 0 || !entry.copied) this.#clusters++;
    }
    this.#tablesTo = Math.max(this.#tablesTo, end);
  }

  /** Bytes of new clusters, refcount blocks for them included; free clusters are not deducted. */
  get bytes(): number {
    return withRefcountBlocks(this.#clusters, this.#context.geometry);
  }
}

function withRefcountBlocks(clusters: number, geometry: Geometry): number {
  const blocks = divideUp(clusters, Math.max(1, geometry.refcountBlockEntries - 1));
  return (clusters + blocks) * geometry.clusterSize;
}

/** Bytes in clusters with refcount 0 in the first `fileSize` bytes. */
export async function countFree(context: MapContext, fileSize: number): Promise<number> {
  const { geometry, tables } = context;
  const { refcountBlockEntries, refcountOrder, clusterSize } = geometry;
  const clusters = Math.floor(fileSize / clusterSize);
  let free = 0;
  for (let first = 0; first < clusters; first += refcountBlockEntries) {
    const count = Math.min(refcountBlockEntries, clusters - first);
    const block = await tables.refcountBlock(first / refcountBlockEntries);
    for (let within = 0; within < count; within++) {
      if (block === null || getRefcount(block.bytes, within, refcountOrder) === 0) free++;
    }
  }
  return free * clusterSize;
}
