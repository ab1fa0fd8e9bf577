// Letting go of clusters that nobody needs here any more, because the layer below reads the same:
// their entries become unallocated (a zero entry would go on hiding what is below), and once that is
// durable their room goes back to the file system. It never takes a cluster, so that it works on a
// full disk, too.
//
// Where an L2 table is shared with a snapshot, so is all that it points to: changing a copy of it
// would cost space and free none. It is left as it is.

import type { Layer } from '../layer.ts';
import { alignDown, alignUp, divideUp } from '../units.ts';
import { l1IndexOf } from './geometry.ts';
import { type MapContext, type MapRun, mapRuns } from './mapping.ts';
import type { PlaceContext } from './place.ts';
import { compressedClusters, unmap } from './publish.ts';
import type { Writer } from './writer.ts';

/** Whole clusters of the guest's disk; offsets in bytes. */
export interface Clusters {
  readonly start: number;
  readonly end: number;
}

/** What of a range is whole clusters; the last one of the disk ends where the disk does. */
export function wholeClusters(
  { clusterSize, size }: Pick<Layer, 'clusterSize' | 'size'>,
  offset: number,
  length: number,
): Clusters {
  const end = offset + length;
  return {
    start: alignUp(offset, clusterSize),
    end: end === size ? alignUp(end, clusterSize) : alignDown(end, clusterSize),
  };
}

/** Resolves when it is durable; false where there was nothing to do, or nothing that can be done. */
export async function reclaim(
  context: PlaceContext,
  { queue, ranges }: Pick<Writer, 'queue' | 'ranges'>,
  { start, end }: Clusters,
): Promise<boolean> {
  const { tables, data } = context;
  // Who reads the data file alone must find there what the guest sees.
  if (data.raw) return false;
  let changed = false;
  for (const [from, to] of ownTables(context, start, end)) {
    const turn = () => queue.run(() => letGo(context, from, to));
    changed = (await ranges.exclusive(from, to, turn)) || changed;
  }
  if (!changed) return false;
  await queue.run(() => tables.checkpoint());
  if (data.external) await data.storage.discard(start, end - start);
  return true;
}

/** What of the range each L2 table maps that is ours alone. */
function* ownTables(
  { geometry, tables }: MapContext,
  start: number,
  end: number,
): Generator<readonly [from: number, to: number]> {
  const { l2Coverage } = geometry;
  const last = Math.min(tables.l1Entries, divideUp(end, l2Coverage));
  for (let index = l1IndexOf(start, geometry); ; index++) {
    index = tables.nextL2(index, last);
    if (index >= last) return;
    const [from, to] = [index * l2Coverage, (index + 1) * l2Coverage];
    if (tables.l1Entry(index).copied) yield [Math.max(start, from), Math.min(end, to)];
  }
}

async function letGo(context: PlaceContext, start: number, end: number): Promise<boolean> {
  const { geometry, tables } = context;
  const { clusterSize } = geometry;
  let changed = false;
  for (let at = start; at < end; ) {
    for (const { kind, offset, length, host } of await mapRuns(context, at, end - at)) {
      at = offset + length;
      // With subclusters, what is unallocated may have room all the same.
      if (kind === 'unallocated' && host < 0) continue;
      const first = alignDown(offset, clusterSize);
      await unmap(context, first, divideUp(at - first, clusterSize), 'unallocated');
      changed = true;
    }
  }
  if (tables.full) await tables.checkpoint();
  return changed;
}

/** Where small parts are not given back: file systems have blocks. */
const BLOCK = 4096;

/**
 * Bytes of the file that letting go of `start .. end` gives back, at least: of clusters that nothing
 * else refers to, what takes space now.
 */
export async function reclaimable(context: MapContext, { start, end }: Clusters): Promise<number> {
  if (context.data.raw) return 0;
  if (!context.geometry.externalData) await context.tables.loadRefcountTable();
  const counter = new ReclaimCounter(context);
  for (const [from, to] of ownTables(context, start, end)) {
    for (let at = from; at < to; ) {
      for (const run of await mapRuns(context, at, to - at)) {
        await counter.add(run);
        at = run.offset + run.length;
      }
    }
  }
  return await counter.bytes();
}

class ReclaimCounter {
  readonly #context: MapContext;
  #bytes = 0;
  /** Neighbours in the file, not yet looked at. */
  #start = 0;
  #end = 0;
  /** The guest's cluster after the last one that was counted. */
  #next = 0;
  /** Clusters that hold compressed ones, and how many of these are let go of. */
  readonly #compressed = new Map<number, number>();

  constructor(context: MapContext) {
    this.#context = context;
  }

  async add({ kind, offset, length, host, compressedBytes }: MapRun): Promise<void> {
    const { geometry } = this.#context;
    const { clusterSize } = geometry;
    if (kind === 'compressed') {
      const { first, count } = compressedClusters(geometry, host, compressedBytes);
      for (let i = first; i < first + count; i++) {
        this.#compressed.set(i, (this.#compressed.get(i) ?? 0) + 1);
      }
      return;
    }
    if (host < 0) return;
    const skew = offset - host;
    const from = Math.max(alignDown(offset, clusterSize), this.#next);
    for (let guest = from; guest < offset + length; guest += clusterSize) {
      await this.#addCluster(guest - skew, 1);
      this.#next = guest + clusterSize;
    }
  }

  /** `references`: those that go. */
  async #addCluster(host: number, references: number): Promise<void> {
    const { geometry, tables } = this.#context;
    const { clusterSize, externalData } = geometry;
    if (!externalData && (await tables.refcount(host / clusterSize)) !== references) return;
    if (host !== this.#end) {
      await this.#look();
      this.#start = host;
    }
    this.#end = host + clusterSize;
  }

  /** What of the neighbours is no hole already, and fills blocks. */
  async #look(): Promise<void> {
    const { storage } = this.#context.data;
    const start = Math.ceil(this.#start / BLOCK) * BLOCK;
    const end = Math.min(alignDown(this.#end, BLOCK), storage.size);
    for (let at = start; at < end; ) {
      const extent = await storage.extentAt(at);
      const stop = Math.min(extent.end, end);
      if (extent.data) this.#bytes += stop - at;
      at = stop;
    }
  }

  async bytes(): Promise<number> {
    const { clusterSize } = this.#context.geometry;
    const clusters = [...this.#compressed].sort(([a], [b]) => a - b);
    for (const [index, references] of clusters) {
      await this.#addCluster(index * clusterSize, references);
    }
    await this.#look();
    this.#start = this.#end;
    return this.#bytes;
  }
}
