// What can be done with persistent bitmaps by name, refused in QEMU's words.

import { ImageError } from '../errors.ts';
import { Bits } from './bitmap-bits.ts';
import {
  bitmapDiskSize,
  bitmapEntryBytes,
  isBitmapTooLarge,
  MAX_BITMAP_DIRECTORY_BYTES,
  MAX_BITMAP_NAME,
  MAX_BITMAPS,
  MAX_GRANULARITY_BITS,
  MIN_GRANULARITY_BITS,
} from './bitmap-directory.ts';
import type { Bitmap, Bitmaps } from './bitmaps.ts';

/** What limits the bitmaps of an image. */
export interface BitmapHome {
  /** For messages. */
  readonly filename: string;
  readonly header: { readonly version: number };
  /** Of the virtual disk, in bytes. */
  readonly size: number;
  readonly clusterSize: number;
}

/** Where bits come from. */
export interface BitmapSource {
  readonly bitmaps: Pick<Bitmaps, 'find' | 'stretchesOf'>;
  /** Of the virtual disk, in bytes. */
  readonly size: number;
}

/** QEMU's choice where nobody asks for another. */
export function defaultGranularity(clusterSize: number): number {
  return Math.min(65536, Math.max(4096, clusterSize));
}

/** A new bitmap, without dirty bits, that records from now on. */
export function addBitmap(
  bitmaps: Bitmaps,
  home: BitmapHome,
  name: string,
  granularity = defaultGranularity(home.clusterSize),
): void {
  const nameBytes = new TextEncoder().encode(name);
  checkNew(bitmaps, home, name, granularity);
  const state = { inconsistent: false, enabled: true, stored: null, keeps: true, added: [] };
  bitmaps.insert({ name, nameBytes, granularity, ...state });
}

/** Throws where there can't be such a bitmap. */
export function checkNew(
  bitmaps: Pick<Bitmaps, 'list' | 'find'>,
  home: BitmapHome,
  name: string,
  granularity: number,
): void {
  if (name === '') throw refuse('Bitmap name cannot be empty');
  const bits = Math.log2(granularity);
  if (bits < MIN_GRANULARITY_BITS || !Number.isInteger(bits)) {
    throw refuse('Granularity must be power of 2 and at least 512');
  }
  if (bitmaps.find(name)) throw refuse(`Bitmap already exists: ${name}`);
  const why = whyNotStorable(bitmaps, home, new TextEncoder().encode(name), granularity);
  if (why !== null) {
    throw refuse(`Can't make bitmap '${name}' persistent in '${home.filename}': ${why}`);
  }
}

function whyNotStorable(
  { list }: Pick<Bitmaps, 'list'>,
  { header, size, clusterSize }: BitmapHome,
  nameBytes: Uint8Array,
  granularity: number,
): string | null {
  if (header.version < 3) return 'Cannot store dirty bitmaps in qcow2 v2 files';
  if (granularity > 2 ** MAX_GRANULARITY_BITS) {
    return `Granularity exceeds maximum (${2 ** MAX_GRANULARITY_BITS} bytes)`;
  }
  if (bitmapDiskSize(size) === 0) return 'The disk has no bytes';
  if (isBitmapTooLarge(size, granularity, clusterSize)) {
    return 'Too much space will be occupied by the bitmap. Use larger granularity';
  }
  if (nameBytes.length > MAX_BITMAP_NAME) {
    return `Name length exceeds maximum (${MAX_BITMAP_NAME} characters)`;
  }
  if (list.length >= MAX_BITMAPS) {
    return 'Maximum number of persistent bitmaps is already reached';
  }
  const bytes = list.reduce((sum, other) => sum + bitmapEntryBytes(other.nameBytes), 0);
  return bytes + bitmapEntryBytes(nameBytes) > MAX_BITMAP_DIRECTORY_BYTES
    ? 'Not enough space in the bitmap directory'
    : null;
}

/** The only thing that can be done with an inconsistent one. */
export function removeBitmap(bitmaps: Bitmaps, name: string): void {
  bitmaps.remove(found(bitmaps, name));
}

export function clearBitmap(bitmaps: Bitmaps, name: string): void {
  const bitmap = usable(found(bitmaps, name));
  bitmap.keeps = false;
  bitmap.added.length = 0;
}

export function setBitmapEnabled(bitmaps: Bitmaps, name: string, enabled: boolean): void {
  usable(found(bitmaps, name)).enabled = enabled;
}

/** Both must be of disks of one size. `source` is null for an image that has no bitmaps. */
export async function mergeBitmap(
  { bitmaps, size }: BitmapSource,
  name: string,
  source: BitmapSource | null,
  sourceName: string,
): Promise<void> {
  const target = found(bitmaps, name);
  if (source === null) throw notFound(sourceName);
  const from = usable(found(source.bitmaps, sourceName));
  const [to, has] = [bitmapDiskSize(size), bitmapDiskSize(source.size)];
  if (to !== has) {
    throw refuse(
      `Bitmaps are of different sizes (destination size is ${to}, source size is ${has}) ` +
        "and can't be merged",
    );
  }
  await mergeBits(usable(target), source.bitmaps, from);
}

/** A bit that touches one of the source's becomes dirty, whatever the granularities. */
export async function mergeBits(
  target: Bitmap,
  source: Pick<Bitmaps, 'stretchesOf'>,
  from: Bitmap,
): Promise<void> {
  const bits = new Bits(target.granularity);
  for await (const stretches of source.stretchesOf(from)) {
    for (const [start, end] of stretches) bits.add(start, end);
  }
  target.added.push(bits);
}

const notFound = (name: string) => refuse(`Dirty bitmap '${name}' not found`);

function found(bitmaps: Pick<Bitmaps, 'find'>, name: string): Bitmap {
  const bitmap = bitmaps.find(name);
  if (bitmap === undefined) throw notFound(name);
  return bitmap;
}

function usable(bitmap: Bitmap): Bitmap {
  if (!bitmap.inconsistent) return bitmap;
  throw new ImageError('invalid', `Bitmap '${bitmap.name}' is inconsistent and cannot be used`, {
    hint: 'Try block-dirty-bitmap-remove to delete this bitmap from disk',
  });
}

function refuse(message: string): ImageError {
  return new ImageError('invalid', message);
}
