// What an image needs before its first change: refcounts that are right, and no promise in its
// header that we don't know how to keep.

import { ImageError } from '../errors.ts';
import type { Qcow2Image } from './image.ts';
import type { WriteIntent } from './image-options.ts';
import type { PlaceContext } from './place.ts';
import type { ReferencedImage } from './references.ts';
import { rebuildRefcounts } from './repair-dirty.ts';
import { INCOMPATIBLE, KNOWN_AUTOCLEAR } from './spec.ts';

/**
 * Why an image can't be written, found without writing; undefined if it can. `backing`: why its
 * backing file can't be read.
 */
export function refusalToWrite(
  image: Qcow2Image,
  what: WriteIntent,
  backing: ImageError | undefined,
): ImageError | undefined {
  const { filename } = image;
  if (!image.writable && !what.writable) {
    return new ImageError('read-only', `${filename} is open for reading only`);
  }
  if (image.corrupt) {
    return new ImageError('corrupt', 'qcow2: Image is corrupt; cannot be opened read/write', {
      hint: `Run 'qimg-ts check -r all ${filename}' first.`,
    });
  }
  if (!what.dataUnchanged && backing !== undefined) return backing;
  return what.dataUnchanged ? undefined : image.data.refusal;
}

/** Why snapshots keep the disk from growing; null if they don't. */
export async function whyFixedSize(image: Qcow2Image): Promise<string | null> {
  if (image.header.nbSnapshots === 0) return null;
  if (image.header.version < 3) return 'it is a version 2 image with internal snapshots';
  const silent = (await image.snapshots()).find(({ hasDiskSize }) => !hasDiskSize);
  // It would come to be taken for a snapshot of the larger disk.
  return silent ? `its snapshot '${silent.name}' does not store the size of its disk` : null;
}

/** Called by the holder of the image's queue. */
export async function prepareForWriting(
  image: ReferencedImage,
  context: PlaceContext,
): Promise<void> {
  // From here on it is known where nothing else must be written.
  await context.tables.loadRefcountTable();
  const { autoclearFeatures, incompatibleFeatures } = image.header;
  if (incompatibleFeatures & INCOMPATIBLE.dirty) {
    await rebuildRefcounts(image, context);
    // We keep refcounts exact, lazy or not, so that it stays clean.
    await context.tables.patchHeaderNow({
      incompatibleFeatures: incompatibleFeatures & ~INCOMPATIBLE.dirty,
    });
  }
  const known = autoclearFeatures & KNOWN_AUTOCLEAR;
  if (known !== autoclearFeatures) {
    await context.tables.patchHeaderNow({ autoclearFeatures: known });
  }
}
