// Counts, for every host cluster, how often the image's own structures point to it: what the
// refcounts ought to be. Reads tables only.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { divideUp } from '../units.ts';
import { findExtension, parseBitmapsExtension, parseEncryptionHeader } from './extensions.ts';
import { readU64, viewOf } from './fields.ts';
import type { Geometry } from './geometry.ts';
import type { Header } from './header.ts';
import { clusterOffset, decodeL2Entry, type L2Entry } from './l2-entry.ts';
import { compressedClusters } from './place.ts';
import { readSnapshotTable } from './snapshots.ts';
import { COPIED_HIGH, EXTENSION, INCOMPATIBLE } from './spec.ts';
import type { Tables } from './tables.ts';

const MAX_COUNT = 0xffff;

/** References per host cluster, two bytes each, for all clusters that the file covers. */
export class ReferenceCounts {
  readonly counts: Uint16Array;
  readonly #clusterSize: number;

  constructor(clusters: number, clusterSize: number) {
    this.counts = new Uint16Array(clusters);
    this.#clusterSize = clusterSize;
  }

  get(cluster: number): number {
    return this.counts[cluster] ?? 0;
  }

  /** Adds a reference to each cluster of a byte range; false where it reaches past the file. */
  add(offset: number, length: number): boolean {
    if (length === 0) return true;
    const first = Math.floor(offset / this.#clusterSize);
    const last = Math.floor((offset + length - 1) / this.#clusterSize);
    for (let cluster = first; cluster <= Math.min(last, this.counts.length - 1); cluster++) {
      this.counts[cluster] = Math.min(MAX_COUNT, this.get(cluster) + 1);
    }
    return last < this.counts.length;
  }
}

export interface ReferencedImage {
  readonly storage: Storage;
  readonly header: Header;
  readonly geometry: Geometry;
  readonly tables: Tables;
}

/** What is met on the way; `check` reports from it. All positions are bytes unless they say index. */
export interface ReferenceVisitor {
  /** A structure lies (partly) past the end of the file. */
  pastEnd?(what: string, offset: number, length: number): void;
  /** An L1 or L2 entry that makes no sense; its references are not counted. */
  broken?(error: ImageError): void;
  l1Entry?(active: boolean, l1Index: number, l2Offset: number, copied: boolean): void;
  /** `guest` is the offset on the disk of the snapshot or the active state. */
  l2Entry?(active: boolean, guest: number, entry: L2Entry, l2Offset: number): void;
}

export async function countReferences(
  image: ReferencedImage,
  visitor: ReferenceVisitor = {},
): Promise<ReferenceCounts> {
  const { storage, header, geometry, tables } = image;
  await tables.loadRefcountTable();
  const counts = new ReferenceCounts(
    divideUp(storage.size, geometry.clusterSize),
    geometry.clusterSize,
  );
  const add = (what: string, offset: number, length: number) => {
    if (!counts.add(offset, length)) visitor.pastEnd?.(what, offset, length);
  };
  add('header', 0, geometry.clusterSize);
  const active = await readL1(storage, tables.l1Offset, tables.l1Entries);
  await countL1(image, active, tables.l1Offset, true, add, visitor);
  const { snapshots, length } = await readSnapshotTable(storage, header);
  for (const { l1TableOffset, l1Size } of snapshots) {
    const l1 = await readL1(storage, l1TableOffset, l1Size);
    await countL1(image, l1, l1TableOffset, false, add, visitor);
  }
  if (header.nbSnapshots > 0) add('snapshot table', header.snapshotsOffset, length);
  add('refcount table', tables.refcountTablePlace.offset, tables.refcountTablePlace.length);
  for (let i = 0; i < tables.refcountTableEntries; i++) {
    const offset = tables.refcountBlockOffset(i);
    if (offset !== 0) add('refcount block', offset, geometry.clusterSize);
  }
  await countExtensions(image, add);
  return counts;
}

async function readL1(storage: Storage, offset: number, entries: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(entries * 8);
  await storage.read(offset, bytes);
  return bytes;
}

type Add = (what: string, offset: number, length: number) => void;

async function countL1(
  image: ReferencedImage,
  l1: Uint8Array,
  l1Offset: number,
  active: boolean,
  add: Add,
  visitor: ReferenceVisitor,
): Promise<void> {
  const { storage, geometry } = image;
  add('L1 table', l1Offset, l1.length);
  const view = viewOf(l1);
  const table = new Uint8Array(geometry.clusterSize);
  for (let i = 0; i < l1.length / 8; i++) {
    const high = view.getUint32(i * 8);
    const offset = clusterOffset(high, view.getUint32(i * 8 + 4));
    if (offset === 0) continue;
    add('L2 table', offset, geometry.clusterSize);
    visitor.l1Entry?.(active, i, offset, (high & COPIED_HIGH) !== 0);
    if (offset % geometry.clusterSize !== 0) {
      visitor.broken?.(new ImageError('corrupt', `L2 table is not aligned (L1 index ${i})`));
      continue;
    }
    if (offset >= storage.size) continue;
    await storage.read(offset, table);
    countL2(image, table, offset, i * geometry.l2Coverage, active, add, visitor);
  }
}

function countL2(
  image: ReferencedImage,
  table: Uint8Array,
  l2Offset: number,
  guest: number,
  active: boolean,
  add: Add,
  visitor: ReferenceVisitor,
): void {
  const { header, geometry } = image;
  const { clusterSize, clusterBits, l2EntryBytes } = geometry;
  // Data clusters of an external data file are counted nowhere.
  const external = (header.incompatibleFeatures & INCOMPATIBLE.externalDataFile) !== 0n;
  const view = viewOf(table);
  for (let i = 0; i < geometry.l2Entries; i++) {
    const high = view.getUint32(i * l2EntryBytes);
    const low = view.getUint32(i * l2EntryBytes + 4);
    if (high === 0 && low === 0) continue;
    if (external) continue;
    let entry: L2Entry;
    try {
      entry = decodeL2Entry(high, low, clusterBits, header.version);
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      visitor.broken?.(error);
      continue;
    }
    if (entry.kind === 'compressed') {
      const { first, count } = compressedClusters(geometry, entry.host, entry.lengthBytes);
      add('compressed cluster', first * clusterSize, count * clusterSize);
    } else if (entry.kind !== 'unallocated' && entry.host !== null) {
      add('data cluster', entry.host, clusterSize);
    }
    visitor.l2Entry?.(active, guest + i * clusterSize, entry, l2Offset);
  }
}

/** Clusters of the encryption header, and of bitmap directory, bitmap tables and bitmap data. */
async function countExtensions({ storage, header, geometry }: ReferencedImage, add: Add) {
  const encryption = findExtension(header.extensions, EXTENSION.encryptionHeader);
  if (encryption !== undefined) {
    const { offset, length } = parseEncryptionHeader(encryption);
    add('encryption header', offset, length);
  }
  const bitmaps = findExtension(header.extensions, EXTENSION.bitmaps);
  if (bitmaps === undefined) return;
  const { directoryOffset, directorySize } = parseBitmapsExtension(bitmaps);
  if (directoryOffset + directorySize > storage.size) {
    throw new ImageError('corrupt', 'the bitmap directory ends past the file');
  }
  add('bitmap directory', directoryOffset, directorySize);
  const directory = new Uint8Array(directorySize);
  await storage.read(directoryOffset, directory);
  const view = viewOf(directory);
  // "Bitmap directory entry": table offset, table size in entries, ..., name and extra sizes.
  for (let at = 0; at + 24 <= directory.length; ) {
    const tableOffset = readU64(view, at, 'bitmap table offset');
    const tableBytes = view.getUint32(at + 8) * 8;
    if (tableOffset + tableBytes > storage.size) {
      throw new ImageError('corrupt', 'a bitmap table ends past the file');
    }
    add('bitmap table', tableOffset, tableBytes);
    const table = new Uint8Array(tableBytes);
    await storage.read(tableOffset, table);
    const entries = viewOf(table);
    for (let i = 0; i < tableBytes; i += 8) {
      const offset = clusterOffset(entries.getUint32(i), entries.getUint32(i + 4));
      if (offset !== 0) add('bitmap data', offset, geometry.clusterSize);
    }
    const nameSize = view.getUint16(at + 18);
    at += Math.ceil((24 + nameSize + view.getUint32(at + 20)) / 8) * 8;
  }
}
