// Where a new image goes: into a file, which is made for it, or into an export of an NBD server.

import { hostFileOf } from '../chain/filename.ts';
import { isNbdName, parseNbd } from '../chain/nbd-options.ts';
import { OptionDict } from '../chain/option-dict.ts';
import { ImageError, reworded } from '../errors.ts';
import type { Host } from '../io/host.ts';
import type { Storage } from '../io/storage.ts';

/** Throws `unsupported` where nothing can be created under that name. */
export function checkTarget(filename: string): void {
  if (!isNbdName(filename)) hostFileOf(filename);
}

/** Empty and open for writing; an export has its size, and what it holds. */
export async function createTarget(filename: string, host: Host): Promise<Storage> {
  if (!isNbdName(filename)) return await host.createStorage(hostFileOf(filename));
  try {
    const { target } = parseNbd(filename, new OptionDict());
    const storage = await host.openNbd?.(target, { writable: true });
    if (storage !== undefined) return storage;
    throw new ImageError('unsupported', "Unknown protocol 'nbd'");
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const cant = "Protocol driver 'nbd' does not support image creation";
    throw reworded(error, `${cant}, and opening the image failed: ${error.message}`);
  }
}
