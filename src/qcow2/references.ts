// Counts, for every host cluster, how often the image's own structures point to it: what the
// refcounts ought to be. Reads tables only, in the order of `qemu-img check`, and tells what is
// wrong with them in its words.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { type BitmapEntry, readBitmapDirectory } from './bitmap-directory.ts';
import { directoryPlaceIn } from './bitmap-publish.ts';
import { ALL_ONES, ALL_ZEROS, readBitmapTable } from './bitmap-table.ts';
import { findExtension, parseEncryptionHeader } from './extensions.ts';
import { viewOf } from './fields.ts';
import type { Geometry } from './geometry.ts';
import type { Header } from './header.ts';
import { type ClusterRange, ReferenceCounts } from './reference-counts.ts';
import { MapWalk, type ReferenceVisitor, readTable } from './reference-walk.ts';
import { readSnapshotTable, type SnapshotTable } from './snapshots.ts';
import { EXTENSION, INCOMPATIBLE, MAX_L1_BYTES } from './spec.ts';
import { refcountBlockOffset } from './stored-refcounts.ts';
import type { Tables } from './tables.ts';

export type { ReferenceCounts } from './reference-counts.ts';

/** Where the tables lie that a walk starts from. */
export type TablePlaces = Pick<Tables, 'l1Offset' | 'l1Entries' | 'refcountTablePlace'>;

export interface ReferencedImage {
  readonly storage: Storage;
  readonly header: Header;
  readonly geometry: Geometry;
  readonly tables: TablePlaces;
  /** What is to be taken for it, whatever the file has. */
  readonly snapshotTable?: SnapshotTable;
}

/** Tables can't overlap, so that honest images stay far below it. */
const MAX_SNAPSHOT_L1_TOTAL = 2 ** 29;

/**
 * The references to the clusters in `range` (default: all that the file covers). The visitor hears
 * of everything whatever the range.
 */
export async function countReferences(
  image: ReferencedImage,
  visitor: ReferenceVisitor = {},
  range: ClusterRange = { first: 0, count: Number.POSITIVE_INFINITY },
): Promise<ReferenceCounts> {
  const counts = new ReferenceCounts(image.geometry, image.storage.size, range);
  await addReferences(image, counts, visitor);
  return counts;
}

/** Adds them to what was counted before. */
export async function addReferences(
  image: ReferencedImage,
  counts: ReferenceCounts,
  visitor: ReferenceVisitor,
): Promise<void> {
  const { geometry, tables } = image;
  const add: Add = (offset, length) => {
    if (!counts.add(offset, length, 1, visitor.overflow)) visitor.pastEnd?.(offset, length);
  };
  add(0, geometry.clusterSize);
  const walk = new MapWalk(image, counts, visitor);
  await walk.l1(tables.l1Offset, tables.l1Entries, true);
  await countSnapshots(image, walk, add, visitor);
  await walk.finish();
  add(tables.refcountTablePlace.offset, tables.refcountTablePlace.length);
  await countExtensions(image, add, visitor);
  await countRefcountBlocks(image, counts, add, visitor);
}

type Add = (offset: number, length: number) => void;

async function countSnapshots(
  { storage, header, geometry, snapshotTable }: ReferencedImage,
  walk: MapWalk,
  add: Add,
  { broken }: ReferenceVisitor,
): Promise<void> {
  if (header.nbSnapshots === 0) return;
  const { snapshots, length } = snapshotTable ?? (await readSnapshotTable(storage, header));
  if ((header.incompatibleFeatures & INCOMPATIBLE.externalDataFile) !== 0n) {
    broken?.(`ERROR ${snapshots.length} snapshots in image with data file`);
  }
  let total = 0;
  for (const { id, name, l1TableOffset, l1Size } of snapshots) {
    const bad = (what: string) =>
      broken?.(`ERROR snapshot ${id} (${name}) ${what}; snapshot table entry corrupted`);
    if (l1TableOffset % geometry.clusterSize !== 0) {
      bad(`l1_offset=0x${l1TableOffset.toString(16)}: L1 table is not cluster aligned`);
    } else if (l1Size * 8 > MAX_L1_BYTES) {
      bad(`l1_size=0x${l1Size.toString(16)}: L1 table is too large`);
    } else {
      total += l1Size * 8;
      if (total > MAX_SNAPSHOT_L1_TOTAL) {
        throw new ImageError('corrupt', 'The L1 tables of the snapshots are too large');
      }
      await walk.l1(l1TableOffset, l1Size, false);
    }
  }
  add(header.snapshotsOffset, length);
}

/** Clusters of the encryption header, and of bitmap directory, bitmap tables and bitmap data. */
async function countExtensions(
  { storage, header, geometry }: ReferencedImage,
  add: Add,
  visitor: ReferenceVisitor,
): Promise<void> {
  const encryption = findExtension(header.extensions, EXTENSION.encryptionHeader);
  if (encryption !== undefined) {
    const { offset, length } = parseEncryptionHeader(encryption);
    add(offset, length);
  }
  await countBitmaps({ storage, header, geometry }, add, visitor);
}

async function countBitmaps(
  { storage, header, geometry }: Pick<ReferencedImage, 'storage' | 'header' | 'geometry'>,
  add: Add,
  visitor: ReferenceVisitor,
): Promise<void> {
  const directory = directoryPlaceIn(header);
  if (directory === null) return;
  add(directory.directoryOffset, directory.directorySize);
  for (const entry of await readBitmapDirectory(storage, header)) {
    add(entry.tableOffset, entry.tableEntries * 8);
    for (const place of await tableOf(entry, storage, geometry, visitor)) {
      if (place !== ALL_ZEROS && place !== ALL_ONES) add(place, geometry.clusterSize);
    }
  }
}

async function tableOf(
  entry: BitmapEntry,
  storage: Storage,
  { clusterSize }: Geometry,
  { lostBitmap }: ReferenceVisitor,
): Promise<Iterable<number>> {
  try {
    return await readBitmapTable(storage, entry, clusterSize);
  } catch (error) {
    const isLost = error instanceof ImageError && error.code === 'corrupt' && entry.inUse;
    if (!isLost || lostBitmap === undefined) throw error;
    lostBitmap(error);
    return [];
  }
}

async function countRefcountBlocks(
  { storage, geometry, tables }: ReferencedImage,
  counts: ReferenceCounts,
  add: Add,
  { broken, badBlock = broken, blockOutside, refcountBlock }: ReferenceVisitor,
): Promise<void> {
  const { offset: tableOffset, length } = tables.refcountTablePlace;
  const view = viewOf(await readTable(storage, tableOffset, length));
  for (let i = 0; i < length / 8; i++) {
    const [high, low] = [view.getUint32(i * 8), view.getUint32(i * 8 + 4)];
    if (high === 0 && low === 0) continue;
    const offset = refcountBlockOffset(high, low);
    const cluster = Math.floor(offset / geometry.clusterSize);
    if (low & 0x1ff) badBlock?.(`ERROR refcount table entry ${i} has reserved bits set`);
    else if (low % geometry.clusterSize !== 0) {
      badBlock?.(
        `ERROR refcount block ${i} is not cluster aligned; refcount table entry corrupted`,
      );
    } else if (cluster >= counts.end) {
      if (blockOutside === undefined) broken?.(`ERROR refcount block ${i} is outside image`);
      else blockOutside(i, cluster);
    } else if (offset !== 0) {
      add(offset, geometry.clusterSize);
      refcountBlock?.(cluster);
      const references = counts.get(cluster);
      if (references > 1) badBlock?.(`ERROR refcount block ${i} refcount=${references}`);
    }
  }
}
