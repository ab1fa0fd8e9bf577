// The bitmap directory: what it says of each persistent bitmap, parsed, checked and encoded. Its
// limits and messages are those of QEMU, which does not open what breaks one.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { alignDown, alignUp, divideUp, SECTOR } from '../units.ts';
import { findExtension, parseBitmapsExtension } from './extensions.ts';
import { readU64, viewOf, writeU64 } from './fields.ts';
import type { Header } from './header.ts';
import type { Piece } from './overlap.ts';
import { AUTOCLEAR, BITMAP_ENTRY, EXTENSION } from './spec.ts';

/** "Bitmap directory entry", its fixed part. */
const ENTRY_BYTES = 24;
/** One with the longest name, and no data that nobody knows. */
const MAX_ENTRY_BYTES = alignUp(ENTRY_BYTES + 0xffff, 8);
const IN_USE = 1;
const AUTO = 2;
const DIRTY_TRACKING = 1;

export const MAX_BITMAPS = 65535;
export const MAX_BITMAP_DIRECTORY_BYTES = 1024 * MAX_BITMAPS;
export const MAX_BITMAP_NAME = 1023;
export const MIN_GRANULARITY_BITS = 9;
export const MAX_GRANULARITY_BITS = 31;
const MAX_TABLE_ENTRIES = 0x800_0000;
/** What a bitmap may take in memory. */
const MAX_BITMAP_BYTES = 0x2000_0000;

export interface BitmapEntry {
  readonly name: string;
  /** As stored: it need not be UTF-8. */
  readonly nameBytes: Uint8Array;
  /** It may miss changes: somebody who recorded in it did not store it. */
  readonly inUse: boolean;
  /** It records what is written. */
  readonly enabled: boolean;
  /** Bytes of the disk that one bit stands for. */
  readonly granularity: number;
  readonly tableOffset: number;
  /** Entries of the bitmap table. */
  readonly tableEntries: number;
  /** Where the entry starts in the directory. */
  readonly position: number;
}

/** What an entry is made of; its position comes with its place in the directory. */
export type NewBitmapEntry = Omit<BitmapEntry, 'position' | 'name'>;

/** The header says where a directory is, and that it can be trusted. */
export function hasBitmaps(header: Pick<Header, 'extensions' | 'autoclearFeatures'>): boolean {
  // A writer that knows no bitmaps cleared the bit: what the extension says is void.
  const trusted = (header.autoclearFeatures & AUTOCLEAR.bitmaps) !== 0n;
  return trusted && findExtension(header.extensions, EXTENSION.bitmaps) !== undefined;
}

/** Where the directory lies that counts; without one, it has no length. */
export function bitmapDirectoryIn(header: Header): Piece {
  const extension = findExtension(header.extensions, EXTENSION.bitmaps);
  if (extension === undefined || !hasBitmaps(header)) return { offset: 0, length: 0 };
  const { directoryOffset, directorySize } = parseBitmapsExtension(extension);
  return { offset: directoryOffset, length: directorySize };
}

/** What became of bitmaps that the header names and that can't be trusted, in words; or null. */
export function whyBitmapsVoid(header: Header): string | null {
  const extension = findExtension(header.extensions, EXTENSION.bitmaps);
  if (extension === undefined || hasBitmaps(header)) return null;
  return header.version < 3
    ? 'This qcow2 v2 image contains bitmaps, but they may have been modified by a program without ' +
        'persistent bitmap support; so now they must all be considered inconsistent'
    : 'a program lacking bitmap support modified this file, so all bitmaps are now considered ' +
        'inconsistent';
}

/** Throws `corrupt` for an extension that QEMU would not take. */
export function checkBitmapsExtension(header: Header): void {
  const extension = findExtension(header.extensions, EXTENSION.bitmaps);
  if (extension === undefined) return;
  const { nbBitmaps, reserved, directoryOffset, directorySize } = parseBitmapsExtension(extension);
  if (!hasBitmaps(header)) return;
  if (reserved !== 0) throw corrupt('bitmaps_ext: Reserved field is not zero');
  if (nbBitmaps > MAX_BITMAPS) {
    throw corrupt(
      `bitmaps_ext: Image has ${nbBitmaps} bitmaps, exceeding the QEMU supported maximum of ` +
        `${MAX_BITMAPS}`,
    );
  }
  if (nbBitmaps === 0) throw corrupt('found bitmaps extension with zero bitmaps');
  if (directoryOffset % 2 ** header.clusterBits !== 0) {
    throw corrupt('bitmaps_ext: invalid bitmap directory offset');
  }
  if (directorySize > MAX_BITMAP_DIRECTORY_BYTES) {
    throw corrupt(
      `bitmaps_ext: bitmap directory size (${directorySize}) exceeds the maximum supported size ` +
        `(${MAX_BITMAP_DIRECTORY_BYTES})`,
    );
  }
}

/** The bitmaps, in their order; none where the directory can't be trusted. */
export async function readBitmapDirectory(
  storage: Storage,
  header: Header,
): Promise<readonly BitmapEntry[]> {
  checkBitmapsExtension(header);
  const extension = findExtension(header.extensions, EXTENSION.bitmaps);
  if (extension === undefined || !hasBitmaps(header)) return [];
  const { nbBitmaps, directoryOffset, directorySize } = parseBitmapsExtension(extension);
  if (directorySize === 0) throw corrupt('Requested bitmap directory size is zero');
  // What lies past the end of the file reads as zeros, which are no entry: one is enough of them,
  // behind a name that the file may end in.
  const inFile = Math.max(0, Math.min(storage.size - directoryOffset, directorySize));
  const bytes = new Uint8Array(Math.min(directorySize, inFile + MAX_ENTRY_BYTES + ENTRY_BYTES));
  await storage.read(directoryOffset, bytes.subarray(0, inFile));
  return parseDirectory(bytes, directorySize, nbBitmaps, header);
}

function parseDirectory(
  bytes: Uint8Array,
  size: number,
  count: number,
  header: Header,
): readonly BitmapEntry[] {
  const entries: BitmapEntry[] = [];
  let at = 0;
  while (at < size) {
    if (at + ENTRY_BYTES > size) throw corrupt('Broken bitmap directory');
    if (entries.length === count) {
      throw corrupt('More bitmaps found than specified in header extension');
    }
    const length = entryLength(bytes, at);
    if (at + length > size) throw corrupt('Broken bitmap directory');
    entries.push(parseEntry(bytes, at, header));
    at += length;
  }
  if (entries.length < count) {
    throw corrupt('Less bitmaps found than specified in header extension');
  }
  return entries;
}

function entryLength(bytes: Uint8Array, at: number): number {
  const view = viewOf(bytes.subarray(at, at + ENTRY_BYTES));
  const { nameSize, extraDataSize } = BITMAP_ENTRY;
  return alignUp(ENTRY_BYTES + view.getUint16(nameSize) + view.getUint32(extraDataSize), 8);
}

function parseEntry(bytes: Uint8Array, position: number, header: Header): BitmapEntry {
  const view = viewOf(bytes.subarray(position, position + ENTRY_BYTES));
  const nameSize = view.getUint16(BITMAP_ENTRY.nameSize);
  if (view.getUint32(BITMAP_ENTRY.extraDataSize) !== 0) {
    throw corrupt('Bitmap extra data is not supported');
  }
  const start = position + ENTRY_BYTES;
  const stored = bytes.subarray(start, start + nameSize);
  const nul = stored.indexOf(0);
  const nameBytes = stored.slice(0, nul < 0 ? undefined : nul);
  const name = new TextDecoder().decode(nameBytes);
  const tableEntries = view.getUint32(BITMAP_ENTRY.tableSize);
  const flags = view.getUint32(BITMAP_ENTRY.flags);
  const granularityBits = view.getUint8(BITMAP_ENTRY.granularityBits);
  const clusterSize = 2 ** header.clusterBits;
  const offsetHigh = view.getUint32(BITMAP_ENTRY.tableOffset);
  const wrong =
    tableEntries === 0 ||
    offsetHigh >= 0x20_0000 ||
    nameSize > MAX_BITMAP_NAME ||
    flags > (IN_USE | AUTO) ||
    view.getUint8(BITMAP_ENTRY.type) !== DIRTY_TRACKING ||
    granularityBits < MIN_GRANULARITY_BITS ||
    granularityBits > MAX_GRANULARITY_BITS ||
    tableEntries > MAX_TABLE_ENTRIES ||
    tableEntries * clusterSize > MAX_BITMAP_BYTES;
  const tableOffset = wrong ? 0 : readU64(view, BITMAP_ENTRY.tableOffset, 'bitmap table offset');
  const inUse = (flags & IN_USE) !== 0;
  const covers = tableEntries * clusterSize * 8 * 2 ** granularityBits;
  // A bitmap that was not stored after its disk grew may be too short.
  const short = !inUse && bitmapDiskSize(header.size) > covers;
  if (wrong || tableOffset === 0 || tableOffset % clusterSize !== 0 || short) {
    throw corrupt(`Bitmap '${name}' doesn't satisfy the constraints`);
  }
  return {
    name,
    nameBytes,
    inUse,
    enabled: (flags & AUTO) !== 0,
    granularity: 2 ** granularityBits,
    tableOffset,
    tableEntries,
    position,
  };
}

/** Bytes that the entry of a bitmap with this name takes. */
export function bitmapEntryBytes(nameBytes: Uint8Array): number {
  return alignUp(ENTRY_BYTES + nameBytes.length, 8);
}

export function encodeBitmapDirectory(entries: readonly NewBitmapEntry[]): Uint8Array {
  const size = entries.reduce((sum, { nameBytes }) => sum + bitmapEntryBytes(nameBytes), 0);
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const entry of entries) {
    const length = bitmapEntryBytes(entry.nameBytes);
    const view = viewOf(bytes.subarray(at, at + length));
    writeU64(view, BITMAP_ENTRY.tableOffset, entry.tableOffset);
    view.setUint32(BITMAP_ENTRY.tableSize, entry.tableEntries);
    view.setUint32(BITMAP_ENTRY.flags, bitmapFlags(entry));
    view.setUint8(BITMAP_ENTRY.type, DIRTY_TRACKING);
    view.setUint8(BITMAP_ENTRY.granularityBits, Math.log2(entry.granularity));
    view.setUint16(BITMAP_ENTRY.nameSize, entry.nameBytes.length);
    bytes.set(entry.nameBytes, at + ENTRY_BYTES);
    at += length;
  }
  return bytes;
}

export function bitmapFlags({ inUse, enabled }: Pick<BitmapEntry, 'inUse' | 'enabled'>): number {
  return (inUse ? IN_USE : 0) | (enabled ? AUTO : 0);
}

/** The disk as bitmaps see it: whole sectors. */
export function bitmapDiskSize(size: number): number {
  return alignDown(size, SECTOR);
}

/** Table entries of a bitmap of a disk of `size` bytes. */
export function bitmapTableEntries(size: number, granularity: number, clusterSize: number): number {
  return divideUp(divideUp(divideUp(bitmapDiskSize(size), granularity), 8), clusterSize);
}

/** A bitmap of a disk of `size` bytes would be larger than QEMU takes. */
export function isBitmapTooLarge(size: number, granularity: number, clusterSize: number): boolean {
  const bytes = divideUp(divideUp(bitmapDiskSize(size), granularity), 8);
  const stored = bitmapTableEntries(size, granularity, clusterSize) * clusterSize;
  return bytes > MAX_BITMAP_BYTES || stored > MAX_BITMAP_BYTES;
}

function corrupt(message: string): ImageError {
  return new ImageError('corrupt', message);
}
