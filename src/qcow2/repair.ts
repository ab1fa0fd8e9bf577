// Refcounts of a dirty image, rebuilt from what the tables point to.
//
// A writer with lazy refcounts that was killed leaves refcounts that are too low; every other
// structure is right. The same checkpoint order as for any change applies: refcounts that rise
// first, then pointers to new refcount blocks, those that fall last.

import { ImageError } from '../errors.ts';
import { refcountTableIndexOf } from './geometry.ts';
import type { PlaceContext } from './place.ts';
import { getRefcount } from './refcount.ts';
import { countReferences, type ReferenceCounts, type ReferencedImage } from './references.ts';

/** Called by the holder of the image's queue, before anything else is changed. */
export async function rebuildRefcounts(
  image: ReferencedImage,
  context: PlaceContext,
): Promise<void> {
  const { tables, filename } = context;
  const refuse = (what: string): never => {
    throw new ImageError(
      'corrupt',
      `${filename}: the image is dirty, and its refcounts can't be rebuilt: ${what}`,
      { hint: `Run 'qemu-img check -r all' on a copy of the image.` },
    );
  };
  await tables.loadRefcountTable();
  const counts = await countReferences(image, {
    pastEnd: (offset) => refuse(`a cluster at offset 0x${offset.toString(16)} is past the end`),
    broken: (message) => refuse(message),
  });
  const ours = await addMissingBlocks(context, counts, refuse);
  await correct(context, counts, ours);
  tables.freeHint = 0;
  await tables.checkpoint();
}

/**
 * A block for every range with clusters in use; it goes to a cluster of its range not in use.
 * Returns the indexes of the clusters that this took.
 */
async function addMissingBlocks(
  context: PlaceContext,
  counts: ReferenceCounts,
  refuse: (what: string) => never,
): Promise<ReadonlySet<number>> {
  const { tables, allocator, geometry } = context;
  const ours = new Set<number>();
  const { refcountBlockEntries, clusterSize } = geometry;
  const lastBlock = refcountTableIndexOf(Math.max(0, counts.counts.length - 1), geometry);
  if (lastBlock >= tables.refcountTableEntries) {
    const { host, count } = await allocator.growRefcountTable(lastBlock + 1);
    for (let n = 0; n < count; n++) ours.add(host / clusterSize + n);
  }
  for (let i = 0; i <= lastBlock; i++) {
    const first = i * refcountBlockEntries;
    if (tables.refcountBlockOffset(i) !== 0) continue;
    let within = 0;
    while (within < refcountBlockEntries && counts.get(first + within) !== 0) within++;
    if (within === refcountBlockEntries) refuse('there is no room for a refcount block');
    const block = tables.newRefcountBlock(i, (first + within) * clusterSize);
    tables.setRefcountIn(block, within, 1);
    ours.add(first + within);
  }
  return ours;
}

async function correct(
  context: PlaceContext,
  counts: ReferenceCounts,
  ours: ReadonlySet<number>,
): Promise<void> {
  const { tables, geometry } = context;
  const { refcountBlockEntries, refcountOrder, maxRefcount } = geometry;
  for (let i = 0; i < tables.refcountTableEntries; i++) {
    const block = await tables.refcountBlock(i);
    if (block === null) continue;
    for (let within = 0; within < refcountBlockEntries; within++) {
      const cluster = i * refcountBlockEntries + within;
      if (ours.has(cluster)) continue;
      const wanted = Math.min(counts.get(cluster), maxRefcount);
      // Lowered at once, not when a checkpoint frees: no pointer has changed.
      if (getRefcount(block.bytes, within, refcountOrder) !== wanted) {
        tables.setRefcountIn(block, within, wanted);
      }
    }
  }
}
