// Drops one reference of each cluster that was freed: in memory, once nothing durable points there.

import type { Storage } from '../io/storage.ts';
import { hex } from './corruption.ts';
import { type Geometry, refcountTableIndexOf } from './geometry.ts';
import { getRefcount } from './refcount.ts';
import { Runs } from './runs.ts';
import type { Table } from './table-cache.ts';
import type { Tables } from './tables.ts';

/** Returns the clusters that are free now. */
export async function lowerRefcounts(
  tables: Tables,
  geometry: Geometry,
  freed: Runs,
): Promise<Runs> {
  const holes = new Runs();
  for (const [first, count] of freed) {
    for (let index = first; index < first + count; ) {
      const blockIndex = refcountTableIndexOf(index, geometry);
      const end = Math.min((blockIndex + 1) * geometry.refcountBlockEntries, first + count);
      const block = await tables.refcountBlock(blockIndex);
      for (; index < end; index++) {
        if (lowerIn(tables, geometry, block, index) === 0) holes.add(index, 1);
      }
    }
  }
  return holes;
}

function lowerIn(tables: Tables, geometry: Geometry, block: Table | null, index: number): number {
  const { refcountBlockEntries, refcountOrder, clusterSize } = geometry;
  const within = index % refcountBlockEntries;
  const old = block === null ? 0 : getRefcount(block.bytes, within, refcountOrder);
  if (block === null || old === 0) {
    throw tables.corrupt(`Cluster in use at offset ${hex(index * clusterSize)} has refcount 0`);
  }
  if (old === 1) tables.structures.checkFree(index * clusterSize, 1, 'freed');
  tables.setRefcountIn(block, within, old - 1);
  if (old === 1) tables.freeHint = Math.min(tables.freeHint, index);
  return old - 1;
}

/** Gives the room of free clusters back to the file system, as far as the file reaches. */
export async function punchHoles(
  storage: Storage,
  { clusterSize }: Geometry,
  holes: Runs,
): Promise<void> {
  for (const [first, count] of holes) {
    const start = first * clusterSize;
    const end = Math.min(start + count * clusterSize, storage.size);
    if (end > start) await storage.discard(start, end - start);
  }
}
