// Reads the first cluster of an image, whose size it says itself.

import { ImageError, reworded, strerror } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { alignUp, SECTOR } from '../units.ts';
import { backingNameEnd, backingNameIn, headerClusterSize } from './header.ts';

/** As many sectors of it as the file has, the last one filled with zeros. Throws `format`, `corrupt` or `unsupported` for what is no image. */
export async function readHeaderCluster(storage: Storage): Promise<Uint8Array> {
  const start = await readStart(storage, SECTOR);
  return await readStart(storage, headerClusterSize(start));
}

/**
 * The stored backing file name, also of an image that can't be opened here; null without one. Reads no
 * more than it takes, where the file is an image at all: for looking at many files.
 */
export async function readBackingName(storage: Storage): Promise<string | null> {
  const start = await readStart(storage, SECTOR);
  const end = backingNameEnd(start);
  return backingNameIn(end <= start.length ? start : await readStart(storage, end));
}

async function readStart(storage: Storage, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(Math.min(length, alignUp(storage.size, SECTOR)));
  try {
    await storage.read(0, bytes);
  } catch (error) {
    if (!(error instanceof ImageError) || error.errno === undefined) throw error;
    throw reworded(error, `Could not read qcow2 header: ${strerror(error.errno)}`);
  }
  return bytes;
}
