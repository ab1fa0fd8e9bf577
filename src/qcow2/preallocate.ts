// All clusters of a new disk mapped before the guest writes to them, through the ordered write path.

import { reserve } from '../io/reserve.ts';
import { alignUp, MIB } from '../units.ts';
import type { Qcow2Image } from './image.ts';

/**
 * What is there before the guest writes. `metadata`: every cluster is mapped and counted, the file
 * has its length but no space. `falloc`: space is set aside too. `full`: zeros are written.
 */
export type Preallocation = 'off' | 'metadata' | 'falloc' | 'full';

/** Tables that are dirty at once stay few. */
const LEAST_PIECE = 16 * MIB;

/**
 * For an image without data and without a backing file: its disk reads as zeros, and still will.
 * With subclusters it will have none, and what gets below it is seen.
 */
export async function preallocate(image: Qcow2Image, mode: Preallocation): Promise<void> {
  if (mode === 'off') return;
  const { size, clusterSize } = image;
  const { storage, external } = image.data;
  const { l2Coverage } = image.geometry;
  const piece = alignUp(Math.max(LEAST_PIECE, l2Coverage), l2Coverage);
  for (let offset = 0; offset < size; offset += piece) {
    const length = Math.min(piece, size - offset);
    await image.reserve(offset, length, async (host, _from, part) => {
      // The last cluster of the disk has its whole length in the image's own file.
      const whole = external ? part : alignUp(part, clusterSize);
      if (mode === 'metadata') await storage.zero(host, whole, 'data');
      else await reserve(storage, host, whole, mode);
    });
  }
}
