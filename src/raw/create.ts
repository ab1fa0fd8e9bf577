// A new raw disk: its length, and the space for it where that is asked for.

import { ImageError } from '../errors.ts';
import { type Reserve, reserve } from '../io/reserve.ts';
import type { Storage } from '../io/storage.ts';
import { SECTOR } from '../units.ts';

/** Gives an empty storage `size` bytes of zeros; of a device only, that it has as many. */
export async function createRaw(
  storage: Storage,
  size: number,
  preallocation: 'off' | Reserve = 'off',
): Promise<void> {
  if (!storage.resizable && preallocation !== 'off') {
    // It has its space, and what it holds is not to be overwritten by a creation.
    throw new ImageError('invalid', `Unsupported preallocation mode '${preallocation}'`);
  }
  if (!storage.resizable && storage.size < size) {
    throw new ImageError('no-space', `Cannot grow ${storage.fixedKind ?? 'device files'}`);
  }
  if (preallocation !== 'off') await reserve(storage, 0, size, preallocation);
  else if (storage.resizable) {
    await storage.resize(size);
    await writeStart(storage, size);
  }
  await storage.flush();
}

const BLOCK = 4096;

/**
 * The start of a file is no hole: requests to it show what alignment direct access needs. QEMU does
 * so too, and `map` shows it.
 */
async function writeStart(storage: Storage, size: number): Promise<void> {
  const length = size < BLOCK ? Math.min(size, SECTOR) : BLOCK;
  if (length > 0) await storage.write(0, new Uint8Array(length), 'data');
}
