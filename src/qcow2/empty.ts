// Emptying an image after a commit: every cluster of its active state goes, the view through it
// becomes the one of its backing file. Every state in between is a sound image with the same view,
// because the backing file holds the same bytes already.
//
// The fast form, for version 3 images with nothing but their active state, costs a few small writes
// and a truncate: (1) the L1 table is zeroed; from here on nothing but tables is in use. (2) A
// minimal set of tables is written to a scratch place and the header switched to it; (3) the same
// again to the final place, right behind the header; (4) the file is cut. A header switch is one
// sector. When the old tables lie at their final place already, (2) is left out.
//
// The slow form drops each L2 table and what it points to, in the order of every other change.

import type { Storage } from '../io/storage.ts';
import { divideUp, SECTOR } from '../units.ts';
import { findExtension } from './extensions.ts';
import { viewOf, writeField, writeU64 } from './fields.ts';
import { cutFile } from './file-end.ts';
import type { Geometry } from './geometry.ts';
import type { Header } from './header.ts';
import type { Structures } from './overlap.ts';
import type { PlaceContext } from './place.ts';
import { setRefcount } from './refcount.ts';
import { releaseTable } from './shrink.ts';
import { CRYPT_LUKS, EXTENSION, HEADER, INCOMPATIBLE } from './spec.ts';

/** The tables of an empty image, at one place: refcount table, refcount block, L1 table. */
interface Layout {
  /** Cluster index of the refcount table; the block and the L1 table follow. */
  readonly first: number;
  readonly l1Clusters: number;
}

const HEADER_CLUSTERS = 1;
const FINAL = HEADER_CLUSTERS;

/** Where the fast form can put its scratch tables; null where only the slow form will do. */
export function fastEmptyScratch(header: Header, context: PlaceContext): number | null {
  const { geometry, tables } = context;
  const l1Clusters = divideUp(tables.l1Entries * 8, geometry.clusterSize);
  const length = 2 + l1Clusters;
  const plain =
    header.version >= 3 &&
    header.nbSnapshots === 0 &&
    header.cryptMethod !== CRYPT_LUKS &&
    (header.incompatibleFeatures & INCOMPATIBLE.externalDataFile) === 0n &&
    findExtension(header.extensions, EXTENSION.bitmaps) === undefined;
  if (!plain || FINAL + length > geometry.refcountBlockEntries) return null;
  const inUse = new Set(tableClusters(context));
  for (let first = FINAL + length; first + length <= geometry.refcountBlockEntries; first++) {
    let free = 0;
    while (free < length && !inUse.has(first + free)) free++;
    if (free === length) return first;
    first += free;
  }
  return null;
}

/** Indexes of the clusters that hold L1 table, refcount table and refcount blocks now. */
function tableClusters({ geometry, tables }: PlaceContext): number[] {
  const { clusterSize } = geometry;
  const clusters: number[] = [];
  const add = (offset: number, length: number) => {
    for (let at = 0; at < length; at += clusterSize) clusters.push((offset + at) / clusterSize);
  };
  add(tables.l1Offset, tables.l1Entries * 8);
  add(tables.refcountTablePlace.offset, tables.refcountTablePlace.length);
  for (let i = 0; i < tables.refcountTableEntries; i++) {
    const offset = tables.refcountBlockOffset(i);
    if (offset !== 0) add(offset, clusterSize);
  }
  return clusters;
}

/** Called by the holder of the image's queue. The caller reads all tables anew afterwards. */
export async function emptyImage(
  storage: Storage,
  header: Header,
  context: PlaceContext,
): Promise<void> {
  await context.tables.loadRefcountTable();
  await context.tables.checkpoint();
  const scratch = fastEmptyScratch(header, context);
  if (scratch === null) await dropAll(storage, context);
  else await replaceTables(storage, context, scratch);
}

async function replaceTables(
  storage: Storage,
  context: PlaceContext,
  scratch: number,
): Promise<void> {
  const { geometry, tables } = context;
  storage.event?.('l1_update');
  const l1Bytes = tables.l1Entries * 8;
  const l1Clusters = divideUp(l1Bytes, geometry.clusterSize);
  await storage.write(tables.l1Offset, new Uint8Array(l1Bytes), 'l1');
  await storage.flush();
  tables.structures.dropAll('active-l2');
  storage.event?.('empty_image_prepare');
  const final: Layout = { first: FINAL, l1Clusters };
  storage.event?.('reftable_update');
  if (liesAt(context, final)) await writeRefcountBlock(storage, geometry, final);
  else {
    for (const layout of [{ first: scratch, l1Clusters }, final]) {
      await writeTables(storage, geometry, layout);
      await storage.flush();
      await switchHeader(storage, geometry, layout);
      showTo(tables.structures, geometry, layout);
    }
  }
  await storage.flush();
  if (storage.resizable) {
    await storage.resize((FINAL + 2 + l1Clusters) * geometry.clusterSize);
    await storage.flush();
  }
}

/** True when the tables are where the layout has them and no other refcount block exists. */
function liesAt({ geometry, tables }: PlaceContext, layout: Layout): boolean {
  const { clusterSize } = geometry;
  for (let i = 1; i < tables.refcountTableEntries; i++) {
    if (tables.refcountBlockOffset(i) !== 0) return false;
  }
  return (
    tables.refcountTablePlace.offset === layout.first * clusterSize &&
    tables.refcountTablePlace.length === clusterSize &&
    tables.refcountBlockOffset(0) === (layout.first + 1) * clusterSize &&
    tables.l1Offset === (layout.first + 2) * clusterSize
  );
}

async function writeTables(storage: Storage, geometry: Geometry, layout: Layout): Promise<void> {
  const { clusterSize } = geometry;
  const table = new Uint8Array(clusterSize);
  writeU64(viewOf(table), 0, (layout.first + 1) * clusterSize);
  await storage.write(layout.first * clusterSize, table, 'refcount-table');
  await writeRefcountBlock(storage, geometry, layout);
  const l1 = new Uint8Array(layout.l1Clusters * clusterSize);
  await storage.write((layout.first + 2) * clusterSize, l1, 'l1');
}

/** From the switch on, those are the tables. */
function showTo(
  structures: Structures,
  { clusterSize }: Geometry,
  { first, l1Clusters }: Layout,
): void {
  structures.place('refcount-table', { offset: first * clusterSize, length: clusterSize });
  structures.dropAll('refcount-block');
  structures.add('refcount-block', (first + 1) * clusterSize);
  const l1 = { offset: (first + 2) * clusterSize, length: l1Clusters * clusterSize };
  structures.place('active-l1', l1);
}

async function writeRefcountBlock(
  storage: Storage,
  geometry: Geometry,
  { first, l1Clusters }: Layout,
): Promise<void> {
  storage.event?.('refblock_alloc');
  const block = new Uint8Array(geometry.clusterSize);
  setRefcount(block, 0, geometry.refcountOrder, 1);
  for (let i = 0; i < 2 + l1Clusters; i++) {
    setRefcount(block, first + i, geometry.refcountOrder, 1);
  }
  await storage.write((first + 1) * geometry.clusterSize, block, 'refcount-block');
}

async function switchHeader(
  storage: Storage,
  { clusterSize }: Geometry,
  { first }: Layout,
): Promise<void> {
  const sector = new Uint8Array(SECTOR);
  await storage.read(0, sector);
  writeField(sector, HEADER.refcountTableOffset, first * clusterSize);
  writeField(sector, HEADER.refcountTableClusters, 1);
  writeField(sector, HEADER.l1TableOffset, (first + 2) * clusterSize);
  await storage.write(0, sector, 'header');
  await storage.flush();
}

async function dropAll(storage: Storage, context: PlaceContext): Promise<void> {
  const { tables } = context;
  for (let index = 0; ; index++) {
    index = tables.nextL2(index, tables.l1Entries);
    if (index >= tables.l1Entries) break;
    const { offset } = tables.l1Entry(index);
    await releaseTable(context, offset);
    tables.setL1Entry(index, 0);
    tables.dropL2Table(offset);
    if (tables.full) await tables.checkpoint();
  }
  await tables.checkpoint();
  await cutFile(storage, context);
}
