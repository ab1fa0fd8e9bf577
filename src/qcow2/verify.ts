// Whether an image can be written to without harm: every cluster that its tables use has a refcount
// that says so. Where it does not, new data would go over old.

import { ImageError } from '../errors.ts';
import type { PlaceContext } from './place.ts';
import { getRefcount } from './refcount.ts';
import { type ReferenceCounts, rangesOf } from './reference-counts.ts';
import type { ReferenceVisitor } from './reference-walk.ts';
import { countReferences, type ReferencedImage } from './references.ts';

type Refuse = (what: string) => never;

/** Throws `corrupt` for the first thing found. Reads all tables, changes nothing. */
export async function verifyRefcounts(
  image: ReferencedImage,
  context: PlaceContext,
): Promise<void> {
  const refuse: Refuse = (what) => {
    throw new ImageError('corrupt', `${context.filename}: ${what}`, {
      hint: `Writing to it could lose data. Run 'qimg-ts check -r all' on it first.`,
    });
  };
  await context.tables.loadRefcountTable();
  const visitor: ReferenceVisitor = {
    broken: refuse,
    pastEnd: (offset) => refuse(`something at offset 0x${offset.toString(16)} is past the end`),
    // Nobody will use it, and nothing of it is freed.
    lostBitmap: () => undefined,
    overflow: () => refuse('a cluster is used more often than its refcount can say'),
  };
  for (const range of rangesOf(image)) {
    const counts = await countReferences(image, visitor, range);
    await verifyCounts(counts, context, refuse);
    counts.release();
  }
}

async function verifyCounts(
  { first, counts }: ReferenceCounts,
  { tables, geometry }: PlaceContext,
  refuse: Refuse,
): Promise<void> {
  const { refcountBlockEntries, refcountOrder, clusterSize } = geometry;
  for (let at = 0; at < counts.length; at += refcountBlockEntries) {
    const block = await tables.refcountBlock((first + at) / refcountBlockEntries);
    const end = Math.min(counts.length, at + refcountBlockEntries);
    for (let cluster = at; cluster < end; cluster++) {
      const references = counts[cluster] ?? 0;
      if (references === 0) continue;
      const stored = block === null ? 0 : getRefcount(block.bytes, cluster - at, refcountOrder);
      if (stored >= references) continue;
      const place = ((first + cluster) * clusterSize).toString(16);
      refuse(
        `the cluster at offset 0x${place} is used ${references} times, but its refcount is ${stored}`,
      );
    }
  }
}
