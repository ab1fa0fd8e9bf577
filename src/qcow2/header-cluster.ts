// Reads the first cluster of an image, whose size it says itself.

import { ImageError, reworded, strerror } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { alignUp, SECTOR } from '../units.ts';
import { headerClusterSize } from './header.ts';

/** As many sectors of it as the file has, the last one filled with zeros. Throws `format`, `corrupt` or `unsupported` for what is no image. */
export async function readHeaderCluster(storage: Storage): Promise<Uint8Array> {
  const start = await readStart(storage, SECTOR);
  return await readStart(storage, headerClusterSize(start));
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
