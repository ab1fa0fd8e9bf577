// Persistent bitmaps, described: the entries of the bitmap directory. Nothing here changes them.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { alignUp } from '../units.ts';
import { findExtension, parseBitmapsExtension } from './extensions.ts';
import { readU64, viewOf } from './fields.ts';
import type { Header } from './header.ts';
import { AUTOCLEAR, EXTENSION } from './spec.ts';

/** "Bitmap directory entry", its fixed part. */
const ENTRY_BYTES = 24;
const FLAGS = ['in-use', 'auto'] as const;
/** What QEMU takes at most. */
const MAX_DIRECTORY_BYTES = 65535 * (ENTRY_BYTES + 1023 + 1);
const MAX_TABLE_ENTRIES = 0x800_0000;

export interface BitmapEntry {
  readonly name: string;
  readonly flags: readonly (typeof FLAGS)[number][];
  /** Bytes of the disk that one bit stands for. */
  readonly granularity: number;
  readonly tableOffset: number;
  /** Bytes of the bitmap table. */
  readonly tableBytes: number;
}

/** The bitmaps; none where the autoclear bit says that the directory can't be trusted. */
export async function readBitmaps(
  storage: Storage,
  header: Header,
): Promise<readonly BitmapEntry[]> {
  if ((header.autoclearFeatures & AUTOCLEAR.bitmaps) === 0n) return [];
  return readBitmapDirectory(storage, header);
}

/** All entries of the directory, trusted or not. */
export async function readBitmapDirectory(
  storage: Storage,
  header: Header,
): Promise<readonly BitmapEntry[]> {
  const extension = findExtension(header.extensions, EXTENSION.bitmaps);
  if (extension === undefined) return [];
  const { nbBitmaps, directoryOffset, directorySize } = parseBitmapsExtension(extension);
  if (directorySize > MAX_DIRECTORY_BYTES || directoryOffset + directorySize > storage.size) {
    throw new ImageError('corrupt', 'The bitmap directory ends past the file');
  }
  const directory = new Uint8Array(directorySize);
  await storage.read(directoryOffset, directory);
  const entries: BitmapEntry[] = [];
  for (let at = 0; entries.length < nbBitmaps; ) {
    const entry = readEntry(directory.subarray(at));
    entries.push(entry.bitmap);
    at += entry.length;
  }
  return entries;
}

function readEntry(bytes: Uint8Array): { bitmap: BitmapEntry; length: number } {
  const cut = () => new ImageError('corrupt', 'The bitmap directory is cut short');
  if (bytes.length < ENTRY_BYTES) throw cut();
  const view = viewOf(bytes);
  const flags = view.getUint32(12);
  const granularityBits = view.getUint8(17);
  const nameBytes = view.getUint16(18);
  const nameStart = ENTRY_BYTES + view.getUint32(20);
  const length = alignUp(nameStart + nameBytes, 8);
  if (length > bytes.length) throw cut();
  const tableEntries = view.getUint32(8);
  if (tableEntries > MAX_TABLE_ENTRIES)
    throw new ImageError('corrupt', 'A bitmap table is too large');
  const bitmap: BitmapEntry = {
    name: new TextDecoder().decode(bytes.subarray(nameStart, nameStart + nameBytes)),
    flags: FLAGS.filter((_, bit) => flags & (1 << bit)),
    granularity: 2 ** granularityBits,
    tableOffset: readU64(view, 0, 'bitmap table offset'),
    tableBytes: tableEntries * 8,
  };
  return { bitmap, length };
}
