// Bitmaps that keep an image from being opened: the disk is worth more than they are.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { type BitmapEntry, hasBitmaps } from './bitmap-directory.ts';
import { readBitmapTable } from './bitmap-table.ts';
import { readBitmaps } from './bitmaps.ts';
import type { Tell } from './check-findings.ts';
import { findExtension } from './extensions.ts';
import { rewriteExtensions } from './header-extensions.ts';
import { readState } from './repair-state.ts';
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
