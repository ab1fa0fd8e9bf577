// Before an image is written to: what speaks against it, and what has to be put right first.

import { ImageError } from '../errors.ts';
import type { Qcow2Image } from './image.ts';
import type { WriteIntent } from './image-options.ts';
import type { PlaceContext } from './place.ts';
import type { Reader } from './reader.ts';
import { rebuildRefcounts } from './repair.ts';
import { INCOMPATIBLE, KNOWN_AUTOCLEAR } from './spec.ts';

/** Why the image can't be written; undefined if it can. */
export function refusalToWrite(
  image: Qcow2Image,
  reader: Reader,
  what: WriteIntent,
): ImageError | undefined {
  const { filename } = image;
  if (!image.writable && !what.writable) {
    return new ImageError('read-only', `${filename} is open for reading only`);
  }
  if (image.corrupt) {
    return new ImageError('corrupt', 'qcow2: Image is corrupt; cannot be opened read/write', {
      hint: `Run 'qemu-img check -r all ${filename}' first.`,
    });
  }
  if (!what.dataUnchanged && reader.lacksBacking) return reader.backingNotOpen();
  const feature = image.unsupportedForReading;
  if (feature === null) return what.dataUnchanged ? undefined : image.data.refusal;
  return new ImageError(
    'unsupported',
    `${filename} uses ${feature}: writing to it is not supported`,
  );
}

/** Why snapshots keep the disk from growing; null if they don't. */
export async function whyFixedSize(image: Qcow2Image): Promise<string | null> {
  if (image.header.nbSnapshots === 0) return null;
  if (image.header.version < 3) return 'it is a version 2 image with internal snapshots';
  const silent = (await image.snapshots()).find(({ hasDiskSize }) => !hasDiskSize);
  // It would come to be taken for a snapshot of the larger disk.
  return silent ? `its snapshot '${silent.name}' does not store the size of its disk` : null;
}

/**
 * Before the first write: rebuilds the refcounts of a dirty image and clears autoclear bits that we
 * don't know. Called by the holder of the image's queue.
 */
export async function takeUp(image: Qcow2Image, context: PlaceContext): Promise<void> {
  const { autoclearFeatures, incompatibleFeatures } = image.header;
  const { tables } = context;
  if (image.dirty) {
    await rebuildRefcounts(image, context);
    await tables.patchHeaderNow({
      incompatibleFeatures: incompatibleFeatures & ~INCOMPATIBLE.dirty,
    });
  }
  const known = autoclearFeatures & KNOWN_AUTOCLEAR;
  if (known !== autoclearFeatures) await tables.patchHeaderNow({ autoclearFeatures: known });
}
