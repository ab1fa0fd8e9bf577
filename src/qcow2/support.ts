// Which features of the format keep this release from reading or writing an image's data.

import { findExtension } from './extensions.ts';
import type { Header } from './header.ts';
import { CRYPT_NONE, EXTENSION } from './spec.ts';

/** The feature in words; null if the guest's data can be read. */
export function unsupportedForReading(header: Header): string | null {
  return header.cryptMethod === CRYPT_NONE ? null : 'encryption';
}

/** The same for writing: bitmaps would have to record what is written. */
export function unsupportedForWriting(header: Header): string | null {
  const hasBitmaps = findExtension(header.extensions, EXTENSION.bitmaps) !== undefined;
  return unsupportedForReading(header) ?? (hasBitmaps ? 'persistent bitmaps' : null);
}
