// Which features of the format keep this release from reading or writing an image's data.

import { ImageError } from '../errors.ts';
import { findExtension } from './extensions.ts';
import type { Header } from './header.ts';
import { EXTENSION, INCOMPATIBLE } from './spec.ts';

/** QEMU's words for encrypted data that is to be read or written without a key. */
export function keyRequired(): ImageError {
  return new ImageError('invalid', "Parameter 'encrypt.key-secret' is required for cipher");
}

/** The feature in words; null if the guest's data can be read. */
export function unsupportedForReading(header: Header): string | null {
  const features = header.incompatibleFeatures;
  if (features & INCOMPATIBLE.extendedL2) return 'extended L2 entries';
  return null;
}

/** The same for writing: bitmaps would have to record what is written. */
function unsupportedForWriting(header: Header): string | null {
  const hasBitmaps = findExtension(header.extensions, EXTENSION.bitmaps) !== undefined;
  return unsupportedForReading(header) ?? (hasBitmaps ? 'persistent bitmaps' : null);
}

/** The same as an error. */
export function featureRefusalToRead(filename: string, header: Header): ImageError | null {
  const feature = unsupportedForReading(header);
  const message = `'${filename}' uses ${feature}, which is not supported`;
  return feature === null ? null : new ImageError('unsupported', message);
}

/** `dataUnchanged`: nothing but what the guest does not see is written. */
export function featureRefusalToWrite(
  filename: string,
  header: Header,
  dataUnchanged: boolean,
): ImageError | undefined {
  const feature = dataUnchanged ? unsupportedForReading(header) : unsupportedForWriting(header);
  if (feature === null) return undefined;
  const message = `${filename} uses ${feature}: writing to it is not supported`;
  return new ImageError('unsupported', message);
}
