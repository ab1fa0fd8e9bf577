// Sizes on the command line, and QEMU's words for what is wrong with them.

import { ImageError } from '../errors.ts';
import { parseExactSize } from '../units.ts';
import type { ProgramContext } from './program.ts';

const MOST = 2n ** 63n - 1n;

/** `what`: as the message calls it, e.g. "image size". */
export function sizeArgument(text: string, what: string, program: ProgramContext): bigint {
  const size = parseExactSize(text);
  if (size === undefined) {
    throw new ImageError(
      'invalid',
      `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for`,
      { hint: 'kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.' },
    );
  }
  if (size === 'too-large' || size > MOST) {
    throw new ImageError('invalid', `Invalid ${what} specified. Must be between 0 and ${MOST}.`);
  }
  if (program.asQemu && /0x[0-9a-f]+[kmgtp]$/i.test(text)) {
    program.err(
      `${program.name}: warning: ` +
        `Using a multiplier suffix on hex numbers is deprecated: ${text}\n`,
    );
  }
  return size;
}
