// Whether most of an image's clusters were only reserved, never written: then where its file has
// holes it reads as zeros, and looking there is worth its time.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { divideUp } from '../units.ts';
import type { Geometry } from './geometry.ts';
import { getRefcount } from './refcount.ts';
import type { Tables } from './tables.ts';

interface Counted {
  readonly storage: Storage;
  readonly geometry: Geometry;
  readonly tables: Tables;
}

/**
 * QEMU's rule: more clusters in use than the file takes space for, by a ninth and by two at least.
 * False where the refcounts can't be read.
 */
export async function isPreallocated({ storage, geometry, tables }: Counted): Promise<boolean> {
  const { clusterSize, refcountBlockEntries, refcountOrder } = geometry;
  const taken = Math.floor(((await storage.allocatedBytes()) ?? storage.size) / clusterSize);
  const threshold = Math.max(Math.floor((taken * 10) / 9), taken + 2);
  const clusters = divideUp(storage.size, clusterSize);
  if (clusters < threshold) return false;
  try {
    await tables.loadRefcountTable();
    let used = 0;
    for (let first = 0; first < clusters; first += refcountBlockEntries) {
      const block = await tables.refcountBlock(first / refcountBlockEntries);
      if (block === null) continue;
      const end = Math.min(refcountBlockEntries, clusters - first);
      for (let i = 0; i < end; i++) if (getRefcount(block.bytes, i, refcountOrder) !== 0) used++;
      if (used >= threshold) return true;
    }
    return false;
  } catch (error) {
    if (error instanceof ImageError) return false;
    throw error;
  }
}
