// What is left at the end of an image's file when its clusters are free: refcount blocks that count
// nothing, and length.

import type { Storage } from '../io/storage.ts';
import { clusterIndexOf, refcountTableIndexOf } from './geometry.ts';
import type { PlaceContext } from './place.ts';
import { getRefcount } from './refcount.ts';

/**
 * Lets go of refcount blocks that count no cluster but their own. Called by the holder of the image's
 * queue, durable when it resolves.
 */
export async function dropUnusedRefcountBlocks(context: PlaceContext): Promise<void> {
  const { tables, geometry } = context;
  let dropped = false;
  for (let i = 1; i < tables.refcountBlocksEnd; i++) {
    const block = await tables.refcountBlock(i);
    if (block === null) continue;
    const cluster = clusterIndexOf(block.offset, geometry);
    const ownIndex = refcountTableIndexOf(cluster, geometry);
    const own = ownIndex === i ? cluster % geometry.refcountBlockEntries : -1;
    if (!countsOnly(block.bytes, own, geometry.refcountBlockEntries, geometry.refcountOrder)) {
      continue;
    }
    tables.dropRefcountBlock(i);
    // Counted in itself, its refcount is gone with it.
    if (own < 0) tables.free(cluster, 1);
    dropped = true;
  }
  if (dropped) await tables.checkpoint();
}

function countsOnly(bytes: Uint8Array, own: number, entries: number, order: number): boolean {
  for (let i = 0; i < entries; i++) {
    if (i !== own && getRefcount(bytes, i, order) !== 0) return false;
  }
  return true;
}

/** Cuts the file behind the last cluster in use; tables must be read anew before they grow again. */
export async function cutFile(storage: Storage, context: PlaceContext): Promise<void> {
  const end = ((await lastUsedCluster(context)) + 1) * context.geometry.clusterSize;
  if (!storage.resizable || end >= storage.size) return;
  await storage.resize(end);
  await storage.flush();
}

async function lastUsedCluster({ geometry, tables }: PlaceContext): Promise<number> {
  for (let i = tables.refcountTableEntries - 1; i >= 0; i--) {
    const block = await tables.refcountBlock(i);
    if (block === null) continue;
    const last = block.bytes.findLastIndex((byte) => byte !== 0);
    if (last < 0) continue;
    const perByte = 8 / geometry.refcountBits;
    // The last entry that any bit of that byte can belong to.
    const within = perByte >= 1 ? (last + 1) * perByte - 1 : Math.floor(last * perByte);
    return i * geometry.refcountBlockEntries + within;
  }
  return 0;
}
