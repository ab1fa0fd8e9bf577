// What keeps an image's data from being read or written, in QEMU's words.

import { ImageError } from '../errors.ts';

/** For encrypted data that is to be read or written without a key. */
export function keyRequired(): ImageError {
  return new ImageError('invalid', "Parameter 'encrypt.key-secret' is required for cipher");
}
