// Room for compressed clusters: byte after byte, sharing host clusters, each of which counts every
// compressed cluster that touches it. Called by the holder of the image's queue.

import { refcountTableIndexOf } from './geometry.ts';
import type { PlaceContext } from './place.ts';

/** The rest of the last host cluster, as long as nothing can have let it go. */
interface Open {
  readonly next: number;
  readonly end: number;
  readonly context: PlaceContext;
  readonly freeings: number;
}

export class BytePacker {
  #open: Open | undefined;

  /** Takes room for `length` bytes, less than a cluster, in one piece; returns its offset. */
  async take(context: PlaceContext, length: number): Promise<number> {
    const { geometry, allocator, tables } = context;
    const { clusterSize } = geometry;
    const open = this.#usable(context);
    if (open !== undefined && open.next + length <= open.end) {
      if (await addReference(context, open.next)) return this.#taken(context, open.next, length);
    }
    const { host } = await allocator.take(1, 'compressed cluster');
    if (open !== undefined && open.next < open.end && host === open.end) {
      // It goes on behind: the new cluster's only reference so far is this one.
      if (open.next + length > open.end && (await addReference(context, open.next))) {
        return this.#taken(context, open.next, length);
      }
    }
    tables.took(host, 1);
    this.#open = { next: host, end: host + clusterSize, context, freeings: tables.freeings };
    return this.#taken(context, host, length);
  }

  #usable(context: PlaceContext): Open | undefined {
    const open = this.#open;
    // What is freed lowers refcounts at a checkpoint: the cluster may be somebody else's by now.
    const isOurs = open?.context === context && open.freeings === context.tables.freeings;
    return isOurs ? open : undefined;
  }

  #taken(context: PlaceContext, host: number, length: number): number {
    const { clusterSize } = context.geometry;
    const next = host + length;
    const end = Math.ceil(next / clusterSize) * clusterSize;
    this.#open = { next, end, context, freeings: context.tables.freeings };
    return host;
  }
}

/** False where the refcount is as large as its width allows. */
async function addReference({ geometry, tables }: PlaceContext, host: number): Promise<boolean> {
  const index = Math.floor(host / geometry.clusterSize);
  const block = await tables.refcountBlock(refcountTableIndexOf(index, geometry));
  const count = await tables.refcount(index);
  if (block === null || count === 0 || count >= geometry.maxRefcount) return false;
  tables.setRefcountIn(block, index % geometry.refcountBlockEntries, count + 1);
  return true;
}
