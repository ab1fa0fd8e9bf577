// Another size for the disk of an open image: what can refuse it, and both directions. What can't be is
// told in QEMU's words.

import { ImageError } from '../errors.ts';
import { SECTOR } from '../units.ts';
import { l1EntriesFor } from './geometry.ts';
import type { GrowthCounter } from './growth.ts';
import type { Qcow2Image } from './image.ts';
import type { Preallocation } from './preallocate.ts';
import { MAX_L1_BYTES } from './spec.ts';

/** Why the disk can't get that size, found without a change; undefined if it can. */
export async function refusalToResize(
  image: Qcow2Image,
  size: number,
): Promise<ImageError | undefined> {
  const { header, geometry, bitmaps } = image;
  if (size % SECTOR !== 0) {
    return new ImageError('invalid', `The new size must be a multiple of ${SECTOR}`, {
      errno: 'EINVAL',
    });
  }
  if (header.nbSnapshots > 0 && header.version < 3) {
    return unsupported("Can't resize a v2 image which has snapshots", {
      hint: 'Its snapshots may not say how large the disk was. Delete them first (snapshot -d).',
    });
  }
  const broken = bitmaps.list.find(({ inconsistent }) => inconsistent);
  if (broken !== undefined) {
    return unsupported(`Bitmap '${broken.name}' is inconsistent and cannot be used`, {
      hint: 'Try block-dirty-bitmap-remove to delete this bitmap from disk',
    });
  }
  if (l1EntriesFor(size, geometry) * 8 > MAX_L1_BYTES) {
    return new ImageError('invalid', TOO_LARGE, {
      errno: 'EFBIG',
      hint: `With its cluster size the disk can have ${(MAX_L1_BYTES / 8) * geometry.l2Coverage} bytes.`,
    });
  }
  const why = await image.whyFixedSize(size);
  return why === null ? undefined : unsupported(`${image.filename} can't be resized: ${why}`);
}

export const TOO_LARGE = 'Failed to grow the L1 table: File too large';

function unsupported(message: string, details: { readonly hint?: string } = {}): ImageError {
  return new ImageError('unsupported', message, { errno: 'ENOTSUP', ...details });
}

/** Bytes that growing to `size` adds to the image's file and to its data file, at most. */
export async function growthBySize(
  image: Qcow2Image,
  size: number,
  preallocation: Preallocation,
): Promise<{ readonly counter: GrowthCounter; readonly dataFileBytes: number }> {
  const { size: old, backing, data, header } = image;
  const bitmaps = image.bitmaps.list.map(({ nameBytes, granularity, inconsistent, enabled }) => {
    return { nameBytes, granularity, records: enabled && !inconsistent, rewritten: false };
  });
  const counter = image.growthCounter(size, bitmaps);
  counter.addL1(size);
  const reserves = preallocation === 'falloc' || preallocation === 'full';
  const isOld = header.version < 3;
  const hidden = Math.min(size, backing?.size ?? 0) - old;
  // What has no zero flag, or decrypts to none, is stored.
  const stores = reserves || (preallocation === 'metadata' && isOld && data.opaque);
  if (stores) await counter.addData(old, size - old);
  else if (hidden > 0 && isOld) await counter.addData(old, hidden);
  else if (hidden > 0) await counter.addTables(old, hidden);
  if (preallocation === 'metadata') await counter.addTables(old, size - old);
  const dataFileBytes = data.external && reserves ? size - old : 0;
  return { counter, dataFileBytes };
}

/**
 * Gives the disk another size; the same one gives back what a resize that was cut off left behind its
 * end. Durable when it resolves; where it fails, the disk has one size or the other, and is sound.
 */
export async function resizeImage(
  image: Qcow2Image,
  size: number,
  preallocation: Preallocation,
): Promise<void> {
  if (size <= image.size) return await image.shrink(size);
  try {
    await image.grow(size, { preallocation });
  } catch (error) {
    // Room for it was taken, perhaps all that there is.
    if (preallocation !== 'off') await image.shrink(image.size).catch(() => undefined);
    throw error;
  }
  const { external, raw, storage } = image.data;
  // Who reads a raw one alone may have put something there.
  if (external && !raw && storage.resizable && storage.size > size) await storage.resize(size);
  await image.storeBitmaps();
  await image.flush();
}
