// Bitmaps that keep an image from being opened: the disk is worth more than they are. And bitmaps of
// which a part is lost.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { type BitmapEntry, hasBitmaps, readBitmapDirectory } from './bitmap-directory.ts';
import { ALL_ONES, readBitmapTable } from './bitmap-table.ts';
import { readBitmaps } from './bitmaps.ts';
import type { Tell } from './check-findings.ts';
import { findExtension } from './extensions.ts';
import { viewOf, writeU64 } from './fields.ts';
import { clusterIndexOf } from './geometry.ts';
import { rewriteExtensions } from './header-extensions.ts';
import { rangesOf } from './reference-counts.ts';
import type { ReferenceVisitor } from './reference-walk.ts';
import { countReferences } from './references.ts';
import { QUIET, type RepairState, readState } from './repair-state.ts';
import { AUTOCLEAR, EXTENSION } from './spec.ts';

/** Why an image can't be opened with its bitmaps; undefined if it can. */
export function whyNoBitmaps(storage: Storage): Promise<ImageError | undefined> {
  return corruptionIn(() => bitmapsOf(storage));
}

async function bitmapsOf(storage: Storage): Promise<readonly BitmapEntry[]> {
  const { header, geometry } = await readState(storage);
  return await readBitmaps(storage, header, header.size, geometry.clusterSize);
}

/** Also that of inconsistent bitmaps: nobody uses them, but a check counts what they hold. */
async function readTables(storage: Storage): Promise<void> {
  const { clusterSize } = (await readState(storage)).geometry;
  for (const entry of await bitmapsOf(storage)) await readBitmapTable(storage, entry, clusterSize);
}

async function corruptionIn(work: () => Promise<unknown>): Promise<ImageError | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (error instanceof ImageError && error.code === 'corrupt') return error;
    throw error;
  }
}

/** Lets go of all bitmaps where they can't be read; true if it did. What they took leaks. */
export async function dropBrokenBitmaps(storage: Storage, tell: Tell): Promise<boolean> {
  const why = await corruptionIn(() => readTables(storage));
  if (why === undefined) return false;
  tell(`Removing the bitmaps, which can't be read: ${why.message}`, 'corruption');
  await dropExtension(storage);
  return true;
}

interface LostBits {
  readonly entry: BitmapEntry;
  readonly index: number;
  readonly offset: number;
}

/**
 * Bits that are past the end of the file can't be known: all of them count as set, so that nobody
 * misses what changed. Returns how many table entries were put right; one whose table shares its
 * cluster with something else stays.
 */
export async function mendLostBits(state: RepairState, tell: Tell): Promise<number> {
  const { storage, geometry } = state;
  const lost = await findLostBits(state);
  if (lost.length === 0) return 0;
  const mended: LostBits[] = [];
  const shared = new Set<number>();
  const visitor: ReferenceVisitor = { ...QUIET, overflow: (cluster) => shared.add(cluster) };
  for (const range of rangesOf(state)) {
    const counts = await countReferences(state, visitor, range);
    for (const bits of lost) {
      const cluster = clusterIndexOf(placeOf(bits), geometry);
      if (counts.get(cluster) === 1 && !shared.has(cluster)) mended.push(bits);
    }
    counts.release();
  }
  const allOnes = new Uint8Array(8);
  writeU64(viewOf(allOnes), 0, ALL_ONES);
  for (const bits of mended) {
    const { entry, index, offset } = bits;
    await storage.write(placeOf(bits), allOnes, 'bitmap');
    const what = `bitmap '${entry.name}', table entry ${index}: offset=0x${offset.toString(16)}`;
    tell(`Repairing ${what} is past the end of the file; its bits are set`, 'corruption');
  }
  await storage.flush();
  return mended.length;
}

async function findLostBits({ storage, header, geometry }: RepairState): Promise<LostBits[]> {
  const lost: LostBits[] = [];
  for (const entry of await readBitmapDirectory(storage, header)) {
    const table = await readBitmapTable(storage, entry, geometry.clusterSize);
    for (const [index, offset] of table.entries()) {
      if (offset > ALL_ONES && offset >= storage.size) lost.push({ entry, index, offset });
    }
  }
  return lost;
}

function placeOf({ entry, index }: LostBits): number {
  return entry.tableOffset + index * 8;
}

/** An extension that counts no more leads to clusters that are given back. */
export async function dropVoidBitmaps(storage: Storage): Promise<void> {
  const { header } = await readState(storage);
  if (findExtension(header.extensions, EXTENSION.bitmaps) === undefined) return;
  if (hasBitmaps(header)) return;
  await dropExtension(storage).catch((error: unknown) => {
    // It can stay: nobody believes it.
    if (!(error instanceof ImageError) || error.code === 'io') throw error;
  });
}

async function dropExtension(storage: Storage): Promise<void> {
  await rewriteExtensions(storage, ({ extensions, autoclearFeatures }) => ({
    extensions: extensions.filter(({ type }) => type !== EXTENSION.bitmaps),
    autoclearFeatures: autoclearFeatures & ~AUTOCLEAR.bitmaps,
  }));
}
