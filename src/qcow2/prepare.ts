// What an image needs before its first change: refcounts that are right, and no promise in its
// header that we don't know how to keep.

import type { PlaceContext } from './place.ts';
import type { ReferencedImage } from './references.ts';
import { rebuildRefcounts } from './repair.ts';
import { INCOMPATIBLE, KNOWN_AUTOCLEAR } from './spec.ts';

/** Called by the holder of the image's queue. */
export async function prepareForWriting(
  image: ReferencedImage,
  context: PlaceContext,
): Promise<void> {
  const { autoclearFeatures, incompatibleFeatures } = image.header;
  if (incompatibleFeatures & INCOMPATIBLE.dirty) {
    await rebuildRefcounts(image, context);
    // We keep refcounts exact, lazy or not, so that it stays clean.
    await image.tables.patchHeaderNow({
      incompatibleFeatures: incompatibleFeatures & ~INCOMPATIBLE.dirty,
    });
  }
  const known = autoclearFeatures & KNOWN_AUTOCLEAR;
  if (known !== autoclearFeatures) {
    await image.tables.patchHeaderNow({ autoclearFeatures: known });
  }
}
