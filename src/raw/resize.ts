// Another length for a raw disk. What can't be is told in QEMU's words.

import { ImageError, reworded, strerror } from '../errors.ts';
import { type Reserve, reserve } from '../io/reserve.ts';
import { SliceStorage } from '../io/slice.ts';
import type { RawImage } from './raw.ts';

/** Of what a disk grows by; `metadata` is for formats that have some. */
export type RawPreallocation = 'off' | 'metadata' | Reserve;

/** Why the disk can't get that size, found without a change; undefined if it can. */
export function refusalToResizeRaw(
  { storage, format, source }: RawImage,
  size: number,
  preallocation: RawPreallocation,
): ImageError | undefined {
  const refuse = (message: string) => new ImageError('unsupported', message, { errno: 'ENOTSUP' });
  if (format === 'null-co') return refuse('Image format driver does not support resize');
  if (storage instanceof SliceStorage && storage.isFixed) {
    return refuse('Cannot resize fixed-size raw disks');
  }
  if (!storage.resizable && preallocation !== 'off') {
    return refuse(unsupportedOnDevices(preallocation));
  }
  if (!storage.resizable && size !== storage.size) {
    return refuse(`Cannot resize ${storage.fixedKind ?? 'device files'}`);
  }
  if (source.image !== undefined && size < storage.size) {
    return refuse(`${storage.filename}: an image inside of another one can't be made smaller`);
  }
  return preallocation === 'metadata'
    ? refuse('Unsupported preallocation mode: metadata')
    : undefined;
}

export function unsupportedOnDevices(preallocation: string): string {
  return `Preallocation mode '${preallocation}' unsupported for this non-regular file`;
}

/**
 * Makes the file `size` bytes long, which need not be whole sectors; durable when it resolves. A file
 * that could not grow has its length as before.
 */
export async function resizeRaw(
  { storage }: RawImage,
  size: number,
  preallocation: RawPreallocation,
): Promise<void> {
  const before = storage.size;
  if (storage.resizable && size !== before) {
    if (preallocation === 'falloc' || preallocation === 'full') {
      try {
        await reserve(storage, before, size - before, preallocation);
      } catch (error) {
        await storage.resize(before).catch(() => undefined);
        throw whileReserving(error, preallocation);
      }
    } else await storage.resize(size);
  }
  await storage.flush();
}

const RESERVING = {
  falloc: 'Could not preallocate new data',
  full: 'Could not write zeros for preallocation',
} as const;

/** What space ran out for. */
export function whileReserving(error: unknown, how: Reserve): unknown {
  if (!(error instanceof ImageError) || error.code !== 'no-space') return error;
  return reworded(error, `${RESERVING[how]}: ${strerror(error.errno ?? 'ENOSPC')}`);
}
