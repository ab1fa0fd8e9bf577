// The host file that a backing file's name means in the end, for those who only ask which file it is.

import { ImageError } from '../errors.ts';
import { parseImage } from './blockdev.ts';
import { hostFileOf, jsonFileOf, protocolOf, resolveName } from './filename.ts';
import { leafOf } from './open-node.ts';
import { OptionDict } from './option-dict.ts';

/**
 * `name` as the image `from` stores it: plain names are relative to its directory, what a protocol
 * or a description holds is taken as it is. Null where no file is behind it. Throws `unsupported`
 * and `invalid` for what we can't follow.
 */
export function fileBehind(from: string, name: string): string | null {
  if (protocolOf(name) === null) return resolveName(from, name);
  try {
    const { node } = parseImage(name, new OptionDict([['driver', 'raw']]));
    return leafOf(node.driver === undefined ? node.file : node)?.filename ?? null;
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    // Drivers that we don't have may stand on files all the same.
    return protocolOf(name) === 'json' ? jsonFileOf(name) : hostFileOf(name);
  }
}
