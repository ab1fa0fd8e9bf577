// Which features of the format keep this release from reading or writing an image's data.

import { ImageError } from '../errors.ts';
import { findExtension } from './extensions.ts';
import type { Header } from './header.ts';
import { EXTENSION } from './spec.ts';

/** QEMU's words for encrypted data that is to be read or written without a key. */
export function keyRequired(): ImageError {
  return new ImageError('invalid', "Parameter 'encrypt.key-secret' is required for cipher");
}

/** What keeps us from writing, in words: bitmaps would have to record what is written. */
export function unsupportedForWriting(header: Header): string | null {
  const hasBitmaps = findExtension(header.extensions, EXTENSION.bitmaps) !== undefined;
  return hasBitmaps ? 'persistent bitmaps' : null;
}
