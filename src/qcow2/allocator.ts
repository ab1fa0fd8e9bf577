// Finds and takes free host clusters; makes refcount blocks and a larger refcount table when the
// image outgrows them. Called by the holder of the image's queue.
//
// Taking raises refcounts in memory; tables.ts says when they become durable.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { divideUp, type HostOffset, hostOffset } from '../units.ts';
import { type Geometry, refcountTableIndexOf } from './geometry.ts';
import { getRefcount } from './refcount.ts';
import { MAX_HOST_OFFSET, MAX_REFCOUNT_TABLE_BYTES } from './spec.ts';
import type { Tables } from './tables.ts';

export interface Run {
  readonly host: HostOffset;
  /** Clusters, one or more. */
  readonly count: number;
  /** The clusters are known to read as zeros: the file has never held anything there. */
  readonly zeroed: boolean;
}

/** What QEMU names where it would be given the place of the header. */
type Purpose = 'L2 table' | 'refcount block' | 'compressed cluster' | undefined;

export class Allocator {
  readonly #storage: Storage;
  readonly #geometry: Geometry;
  readonly #tables: Tables;
  /** From this offset on, the file has never held anything: a new cluster there reads as zeros. */
  #untouchedFrom: number;

  constructor(storage: Storage, geometry: Geometry, tables: Tables) {
    this.#storage = storage;
    this.#geometry = geometry;
    this.#tables = tables;
    this.#untouchedFrom = storage.growsZeroed ? storage.size : Number.MAX_SAFE_INTEGER;
  }

  /** Takes the first free clusters: a run of 1 to `wanted`. */
  async take(wanted: number, purpose?: Purpose): Promise<Run> {
    this.#storage.event?.('cluster_alloc');
    await this.#tables.loadRefcountTable();
    const { refcountBlockEntries } = this.#geometry;
    for (let index = this.#tables.freeHint; ; ) {
      const blockIndex = refcountTableIndexOf(index, this.#geometry);
      if (this.#tables.refcountBlockOffset(blockIndex) === 0) {
        await this.#addRefcountBlock(blockIndex);
        continue;
      }
      const run = await this.#takeIn(blockIndex, index % refcountBlockEntries, wanted, purpose);
      if (run !== undefined) return run;
      index = (blockIndex + 1) * refcountBlockEntries;
    }
  }

  async #takeIn(
    blockIndex: number,
    from: number,
    wanted: number,
    purpose: Purpose,
  ): Promise<Run | undefined> {
    const block = await this.#tables.refcountBlock(blockIndex);
    if (block === null) return undefined;
    const { refcountBlockEntries: entries, refcountOrder: order, clusterSize } = this.#geometry;
    let within = from;
    while (within < entries && getRefcount(block.bytes, within, order) !== 0) within++;
    const first = blockIndex * entries + within;
    this.#tables.freeHint = Math.max(this.#tables.freeHint, first);
    if (within === entries) return undefined;
    let count = 0;
    while (
      count < wanted &&
      within + count < entries &&
      getRefcount(block.bytes, within + count, order) === 0
    ) {
      count++;
    }
    this.#checkTaken(first * clusterSize, count, purpose);
    for (let i = 0; i < count; i++) this.#tables.setRefcountIn(block, within + i, 1);
    this.#tables.took(first * clusterSize, count);
    this.#tables.freeHint = first + count;
    const host = hostOffset(first * clusterSize);
    const zeroed = host >= this.#untouchedFrom;
    this.#untouchedFrom = Math.max(this.#untouchedFrom, host + count * clusterSize);
    return { host, count, zeroed };
  }

  /** Takes `count` clusters in one piece. */
  async takeContiguous(count: number): Promise<Run> {
    const run = await this.take(count);
    if (run.count === count) return run;
    this.#tables.free(run.host / this.#geometry.clusterSize, run.count);
    return this.#takeBeyond(count);
  }

  /**
   * A piece that may be larger than a refcount block covers: beyond all clusters that have a
   * refcount block, first the blocks for the new clusters, then the clusters.
   */
  async #takeBeyond(count: number): Promise<Run> {
    const { clusterSize, refcountBlockEntries } = this.#geometry;
    const blocks = divideUp(count, refcountBlockEntries - 1);
    let first = this.#tables.refcountBlocksEnd;
    if (first + blocks > this.#tables.refcountTableEntries) {
      await this.growRefcountTable(first, blocks);
      first = this.#tables.refcountBlocksEnd;
    }
    const start = first * refcountBlockEntries * clusterSize;
    this.#checkTaken(start, blocks + count);
    this.#addBlocks(first, blocks, blocks + count);
    return { host: hostOffset(start + blocks * clusterSize), count, zeroed: false };
  }

  /** Refcount blocks `first ..` at the start of their own range, the first `used` clusters taken. */
  #addBlocks(first: number, blocks: number, used: number): void {
    const { clusterSize, refcountBlockEntries } = this.#geometry;
    const start = first * refcountBlockEntries * clusterSize;
    for (let i = 0; i < blocks; i++) {
      const block = this.#tables.newRefcountBlock(first + i, start + i * clusterSize);
      const covered = Math.min(used - i * refcountBlockEntries, refcountBlockEntries);
      for (let within = 0; within < covered; within++) this.#tables.setRefcountIn(block, within, 1);
    }
    this.#tables.took(start, used);
    this.#untouchedFrom = Math.max(this.#untouchedFrom, start + used * clusterSize);
  }

  /** A refcount block for a range of clusters that are all free: it lies in its own range. */
  async #addRefcountBlock(blockIndex: number): Promise<void> {
    if (blockIndex >= this.#tables.refcountTableEntries) {
      await this.growRefcountTable(blockIndex);
      return;
    }
    this.#storage.event?.('refblock_alloc');
    const first = blockIndex * this.#geometry.refcountBlockEntries;
    this.#checkTaken(first * this.#geometry.clusterSize, 1, 'refcount block');
    const block = this.#tables.newRefcountBlock(blockIndex, first * this.#geometry.clusterSize);
    this.#tables.setRefcountIn(block, 0, 1);
  }

  /**
   * A refcount table with room for block `blockIndex`, placed where that block's range begins:
   * first the blocks that cover the new clusters themselves, then the table. `room`: so many more
   * blocks must fit.
   */
  async growRefcountTable(blockIndex: number, room = 0): Promise<Run> {
    this.#storage.event?.('reftable_grow');
    const { clusterSize, refcountBlockEntries } = this.#geometry;
    const first = blockIndex * refcountBlockEntries;
    const entriesPerCluster = clusterSize / 8;
    let tableClusters = 0;
    let blocks = 0;
    for (let settled = false; !settled; ) {
      // Half as many again as needed, so that growth is rare.
      const entries = Math.ceil((blockIndex + blocks + room) * 1.5) + 1;
      const nextClusters = divideUp(entries, entriesPerCluster);
      const nextBlocks = divideUp(nextClusters + blocks, refcountBlockEntries);
      settled = nextClusters === tableClusters && nextBlocks === blocks;
      tableClusters = Math.max(tableClusters, nextClusters);
      blocks = Math.max(blocks, nextBlocks);
    }
    if (tableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
      throw new ImageError(
        'no-space',
        `${this.#storage.filename}: the refcount table can't grow beyond 8 MiB`,
        { errno: 'EFBIG' },
      );
    }
    const start = first * clusterSize;
    this.#checkTaken(start, blocks + tableClusters);
    this.#tables.moveRefcountTable(start + blocks * clusterSize, tableClusters);
    this.#addBlocks(blockIndex, blocks, blocks + tableClusters);
    return { host: hostOffset(start), count: blocks + tableClusters, zeroed: false };
  }

  /** There is room, and no table lies there. */
  #checkTaken(host: number, count: number, purpose?: Purpose): void {
    const end = host + count * this.#geometry.clusterSize;
    if (end > MAX_HOST_OFFSET || (!this.#storage.resizable && end > this.#storage.size)) {
      throw new ImageError(
        'no-space',
        `${this.#storage.filename}: no free cluster is left (the image would need ${end} bytes)`,
        { errno: 'ENOSPC' },
      );
    }
    if (host === 0 && purpose !== undefined) {
      throw this.#tables.corrupt(`Preventing invalid allocation of ${purpose} at offset 0`);
    }
    this.#tables.structures.checkFree(host, count, 'taken');
  }
}
