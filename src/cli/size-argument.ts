// A number of bytes on the command line, and QEMU's words for what is none.

import { ImageError } from '../errors.ts';
import { parseSize } from '../units.ts';

const MOST = 2n ** 63n - 1n;

/** `what`: the name that messages give it. */
export function sizeArgument(what: string, text: string): number {
  const size = parseSize(text);
  if (size !== undefined) return size;
  const tooLarge = /^(\d+|\d+(\.\d*)?[bkmgtpe]|0x[0-9a-f]+)$/i.test(text);
  throw tooLarge
    ? new ImageError('invalid', `Invalid ${what} specified. Must be between 0 and ${MOST}.`)
    : new ImageError(
        'invalid',
        `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for`,
        { hint: 'kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.' },
      );
}
