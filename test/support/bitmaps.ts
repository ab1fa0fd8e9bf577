// What bitmaps say, read from an image's bytes in a way that shares nothing with src/.

import { readFileSync, writeFileSync } from 'node:fs';

const SECTOR = 512;
const BITMAPS_EXTENSION = 0x2385_2875;

export interface BitmapText {
  readonly name: string;
  /** 1: in use, 2: it records. */
  readonly flags: number;
  readonly granularity: number;
  /** Dirty sectors, in ascending order; none of a bitmap in use, whose bits mean nothing. */
  readonly dirty: readonly number[];
}

/** The bitmaps of an image; none where its autoclear bit is not set. */
export function bitmapsIn(image: Uint8Array): readonly BitmapText[] {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const u64 = (at: number) => Number(view.getBigUint64(at));
  if (view.getUint32(4) < 3 || (u64(88) & 1) === 0) return [];
  const extension = extensionIn(view, BITMAPS_EXTENSION);
  const bitmaps: BitmapText[] = [];
  if (extension === undefined) return bitmaps;
  const [size, start] = [u64(extension + 8), u64(extension + 16)];
  for (let at = start; at < start + size; ) {
    const nameBytes = view.getUint16(at + 18);
    const granularity = 2 ** view.getUint8(at + 17);
    const flags = view.getUint32(at + 12);
    bitmaps.push({
      name: Buffer.from(image.subarray(at + 24, at + 24 + nameBytes)).toString(),
      flags,
      granularity,
      dirty: flags & 1 ? [] : dirtySectors(view, u64(at), view.getUint32(at + 8), granularity),
    });
    at += Math.ceil((24 + nameBytes) / 8) * 8;
  }
  return bitmaps;
}

/** Where the first entry of the directory, its table, and the extension's data lie. */
export interface BitmapPlaces {
  readonly extension: number;
  readonly entry: number;
  readonly table: number;
}

/** Changes the bytes of an image file with bitmaps. */
export function changeBitmaps(
  file: string,
  work: (bytes: Buffer, places: BitmapPlaces) => void,
): void {
  const bytes = readFileSync(file);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const extension = extensionIn(view, BITMAPS_EXTENSION) ?? 0;
  const entry = Number(view.getBigUint64(extension + 16));
  work(bytes, { extension, entry, table: Number(view.getBigUint64(entry)) });
  writeFileSync(file, bytes);
}

function extensionIn(view: DataView, wanted: number): number | undefined {
  for (let at = view.getUint32(100); ; ) {
    const type = view.getUint32(at);
    if (type === wanted) return at + 8;
    if (type === 0) return undefined;
    at += 8 + Math.ceil(view.getUint32(at + 4) / 8) * 8;
  }
}

function dirtySectors(
  view: DataView,
  table: number,
  entries: number,
  granularity: number,
): readonly number[] {
  const clusterSize = 2 ** view.getUint32(20);
  const sectors = Math.floor(Number(view.getBigUint64(24)) / SECTOR);
  const perBit = granularity / SECTOR;
  const dirty: number[] = [];
  for (let bit = 0; bit * perBit < sectors; bit++) {
    const index = Math.floor(bit / 8 / clusterSize);
    if (index >= entries) break;
    const entry = Number(view.getBigUint64(table + index * 8));
    const within = Math.floor(bit / 8) % clusterSize;
    const byte = entry === 1 ? 0xff : entry === 0 ? 0 : view.getUint8(entry + within);
    if ((byte & (1 << (bit % 8))) === 0) continue;
    for (let i = 0; i < perBit && bit * perBit + i < sectors; i++) dirty.push(bit * perBit + i);
  }
  return dirty;
}
