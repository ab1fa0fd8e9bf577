// Counts, for every host cluster, how often the image's own structures point to it: what the
// refcounts ought to be. Reads tables only.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { divideUp, SECTOR } from '../units.ts';
import { readBitmapDirectory } from './bitmaps.ts';
import { findExtension, parseBitmapsExtension, parseEncryptionHeader } from './extensions.ts';
import { viewOf } from './fields.ts';
import type { Geometry } from './geometry.ts';
import type { Header } from './header.ts';
import { clusterOffset, decodeCompressed } from './l2-entry.ts';
import { readSnapshotTable } from './snapshots.ts';
import {
  COMPRESSED_HIGH,
  COPIED_HIGH,
  EXTENSION,
  INCOMPATIBLE,
  OFFSET_HIGH,
  OFFSET_LOW,
  ZERO_LOW,
} from './spec.ts';
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

  /**
   * Adds a reference to each cluster of a byte range; false where it reaches past the file by a
   * cluster or more: the last cluster may be there in part.
   */
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

/** What is met on the way; `check` reports from it. Halves are those of the table entry. */
export interface ReferenceVisitor {
  /** A structure lies past the end of the file by a cluster or more. */
  pastEnd?(offset: number, length: number): void;
  /** Something that makes no sense, in the words of `qemu-img check`. */
  broken?(message: string): void;
  /** An L2 table of the active state begins. */
  l1Entry?(): void;
  /** An entry of the active state that holds a host cluster or compressed data. */
  l2Entry?(kind: 'data' | 'zero' | 'compressed', host: number): void;
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
  const add = (offset: number, length: number) => {
    if (!counts.add(offset, length)) visitor.pastEnd?.(offset, length);
  };
  add(0, geometry.clusterSize);
  const active = await readL1(storage, tables.l1Offset, tables.l1Entries);
  add(tables.l1Offset, active.length);
  await countL1(image, active, add, visitor);
  const { snapshots, length } = await readSnapshotTable(storage, header);
  for (const { l1TableOffset, l1Size } of snapshots) {
    const l1 = await readL1(storage, l1TableOffset, l1Size);
    add(l1TableOffset, l1.length);
    const { pastEnd, broken } = visitor;
    await countL1(image, l1, add, { ...(pastEnd && { pastEnd }), ...(broken && { broken }) });
  }
  if (header.nbSnapshots > 0) add(header.snapshotsOffset, length);
  add(tables.refcountTablePlace.offset, tables.refcountTablePlace.length);
  for (let i = 0; i < tables.refcountTableEntries; i++) {
    const offset = tables.refcountBlockOffset(i);
    if (offset !== 0) add(offset, geometry.clusterSize);
  }
  await countExtensions(image, add);
  return counts;
}

export async function readL1(
  storage: Storage,
  offset: number,
  entries: number,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(entries * 8);
  await storage.read(offset, bytes);
  return bytes;
}

type Add = (offset: number, length: number) => void;

/** One L2 table at a time: its L1 index, offset, and bytes (reused for the next one). */
export async function* eachL2Table(
  { storage, geometry }: ReferencedImage,
  l1: Uint8Array,
  broken?: (message: string) => void,
  found?: (offset: number) => void,
): AsyncGenerator<{ readonly index: number; readonly offset: number; readonly view: DataView }> {
  const entries = viewOf(l1);
  const table = new Uint8Array(geometry.clusterSize);
  const view = viewOf(table);
  for (let index = 0; index < l1.length / 8; index++) {
    const high = entries.getUint32(index * 8);
    const low = entries.getUint32(index * 8 + 4);
    if (high === 0 && low === 0) continue;
    if (high & ~OFFSET_HIGH & ~COPIED_HIGH || low & ~OFFSET_LOW) {
      broken?.(`ERROR found L1 entry with reserved bits set: ${entryHex(high, low)}`);
    }
    const offset = clusterOffset(high, low);
    if (offset === 0) continue;
    found?.(offset);
    if (offset % geometry.clusterSize !== 0) {
      broken?.(
        `ERROR l2_offset=${entryHex(high & OFFSET_HIGH, low)}: Table is not cluster aligned; ` +
          'L1 entry corrupted',
      );
      continue;
    }
    if (offset >= storage.size) continue;
    await storage.read(offset, table);
    yield { index, offset, view };
  }
}

async function countL1(
  image: ReferencedImage,
  l1: Uint8Array,
  add: Add,
  visitor: ReferenceVisitor,
): Promise<void> {
  const { geometry } = image;
  const found = (offset: number) => add(offset, geometry.clusterSize);
  for await (const { view } of eachL2Table(image, l1, visitor.broken, found)) {
    visitor.l1Entry?.();
    countL2(image, view, add, visitor);
  }
}

function countL2(
  { header, geometry }: ReferencedImage,
  view: DataView,
  add: Add,
  visitor: ReferenceVisitor,
): void {
  const { clusterSize, clusterBits, l2EntryBytes } = geometry;
  // Data clusters of an external data file are counted nowhere.
  if ((header.incompatibleFeatures & INCOMPATIBLE.externalDataFile) !== 0n) return;
  // Bit 0 is the zero flag, but not in version 2 and not with subclusters.
  const hasZeroFlag = header.version >= 3 && l2EntryBytes === 8;
  const reservedLow = hasZeroFlag ? ~OFFSET_LOW & ~ZERO_LOW : ~OFFSET_LOW;
  for (let at = 0; at < clusterSize; at += l2EntryBytes) {
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    if (high === 0 && low === 0) continue;
    if (high & COMPRESSED_HIGH) {
      const { host, lengthBytes } = decodeCompressed(high, low, clusterBits);
      if (high & COPIED_HIGH) {
        visitor.broken?.(
          `ERROR: coffset=0x${host.toString(16)}: copied flag must never be set for ` +
            'compressed clusters',
        );
      }
      const sector = host - (host % SECTOR);
      add(sector, host + lengthBytes - sector);
      visitor.l2Entry?.('compressed', host);
      continue;
    }
    if (high & ~OFFSET_HIGH & ~COPIED_HIGH || low & reservedLow) {
      visitor.broken?.(`ERROR found l2 entry with reserved bits set: ${entryHex(high, low)}`);
    }
    const host = clusterOffset(high, low);
    if (host === 0) continue;
    if (host % clusterSize !== 0) {
      visitor.broken?.(
        `ERROR offset=${host.toString(16)}: Cluster is not properly aligned; L2 entry corrupted.`,
      );
    }
    add(host, clusterSize);
    visitor.l2Entry?.(hasZeroFlag && low & ZERO_LOW ? 'zero' : 'data', host);
  }
}

/** A table entry as QEMU prints it: hexadecimal, without leading zeros. */
export function entryHex(high: number, low: number): string {
  const head = (high >>> 0).toString(16);
  const tail = (low >>> 0).toString(16);
  return head === '0' ? tail : head + tail.padStart(8, '0');
}

/** Clusters of the encryption header, and of bitmap directory, bitmap tables and bitmap data. */
async function countExtensions({ storage, header, geometry }: ReferencedImage, add: Add) {
  const encryption = findExtension(header.extensions, EXTENSION.encryptionHeader);
  if (encryption !== undefined) {
    const { offset, length } = parseEncryptionHeader(encryption);
    add(offset, length);
  }
  const bitmaps = findExtension(header.extensions, EXTENSION.bitmaps);
  if (bitmaps === undefined) return;
  const { directoryOffset, directorySize } = parseBitmapsExtension(bitmaps);
  add(directoryOffset, directorySize);
  for (const { tableOffset, tableBytes } of await readBitmapDirectory(storage, header)) {
    if (tableOffset + tableBytes > storage.size) {
      throw new ImageError('corrupt', 'a bitmap table ends past the file');
    }
    add(tableOffset, tableBytes);
    const table = new Uint8Array(tableBytes);
    await storage.read(tableOffset, table);
    const entries = viewOf(table);
    for (let i = 0; i < tableBytes; i += 8) {
      const offset = clusterOffset(entries.getUint32(i), entries.getUint32(i + 4));
      if (offset !== 0) add(offset, geometry.clusterSize);
    }
  }
}
