// Refcounts of a dirty image, rebuilt from what the tables point to.
//
// A writer with lazy refcounts that was killed leaves refcounts that are too low; every other
// structure is right. The same checkpoint order as for any change applies: refcounts that rise
// first, then pointers to new refcount blocks, those that fall last.

import { ImageError } from '../errors.ts';
import { divideUp } from '../units.ts';
import { refcountTableIndexOf } from './geometry.ts';
import type { PlaceContext } from './place.ts';
import { getRefcount } from './refcount.ts';
import { type ReferenceCounts, rangesOf } from './reference-counts.ts';
import type { ReferenceVisitor } from './reference-walk.ts';
import { countReferences, type ReferencedImage } from './references.ts';

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
      { hint: `Run 'qimg-ts check -r all' on it.` },
    );
  };
  const visitor: ReferenceVisitor = {
    pastEnd: (offset) => refuse(`a cluster at offset 0x${offset.toString(16)} is past the end`),
    broken: (message) => refuse(message),
  };
  await tables.loadRefcountTable();
  const grows = lastBlockOf(image) >= tables.refcountTableEntries;
  // A table that moves is counted at its old place, so that nothing may be written in between.
  const ranges = grows ? [{ first: 0, count: Number.POSITIVE_INFINITY }] : rangesOf(image);
  for (const range of ranges) {
    const counts = await countReferences(image, visitor, range);
    const ours = grows ? await growTable(image, context) : new Set<number>();
    const end = range === ranges.at(-1) ? Number.POSITIVE_INFINITY : range.first + range.count;
    const blocks = blocksBetween(image, tables.refcountTableEntries, range.first, end);
    addMissingBlocks(context, counts, blocks, ours, refuse);
    await correct(context, counts, blocks, ours);
    tables.freeHint = 0;
    await tables.checkpoint();
  }
}

/** Index of the refcount block for the last cluster of the file. */
function lastBlockOf({ storage, geometry }: ReferencedImage): number {
  const clusters = divideUp(storage.size, geometry.clusterSize);
  return refcountTableIndexOf(Math.max(0, clusters - 1), geometry);
}

interface Blocks {
  readonly first: number;
  /** Those that cover the file end before this one. */
  readonly fileEnd: number;
  readonly end: number;
}

/** The refcount blocks for some of the clusters, which are a whole number of them. */
function blocksBetween(
  image: ReferencedImage,
  entries: number,
  first: number,
  end: number,
): Blocks {
  const { refcountBlockEntries } = image.geometry;
  const last = Math.min(end / refcountBlockEntries, entries);
  return {
    first: first / refcountBlockEntries,
    fileEnd: Math.min(last, lastBlockOf(image) + 1),
    end: last,
  };
}

/** Returns the clusters that this took. */
async function growTable(
  image: ReferencedImage,
  { allocator, geometry }: PlaceContext,
): Promise<Set<number>> {
  const { host, count } = await allocator.growRefcountTable(lastBlockOf(image) + 1);
  return new Set(Array.from({ length: count }, (_, n) => host / geometry.clusterSize + n));
}

/** A block for every range of the file; it goes to a cluster of its range not in use. */
function addMissingBlocks(
  { tables, geometry }: PlaceContext,
  counts: ReferenceCounts,
  { first: firstBlock, fileEnd }: Blocks,
  ours: Set<number>,
  refuse: (what: string) => never,
): void {
  const { refcountBlockEntries, clusterSize } = geometry;
  for (let i = firstBlock; i < fileEnd; i++) {
    if (tables.refcountBlockOffset(i) !== 0) continue;
    const first = i * refcountBlockEntries;
    let within = 0;
    while (within < refcountBlockEntries && counts.get(first + within) !== 0) within++;
    if (within === refcountBlockEntries) refuse('there is no room for a refcount block');
    const block = tables.newRefcountBlock(i, (first + within) * clusterSize);
    tables.setRefcountIn(block, within, 1);
    ours.add(first + within);
  }
}

async function correct(
  { tables, geometry }: PlaceContext,
  counts: ReferenceCounts,
  { first, end }: Blocks,
  ours: ReadonlySet<number>,
): Promise<void> {
  const { refcountBlockEntries, refcountOrder, maxRefcount } = geometry;
  for (let i = first; i < end; i++) {
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
