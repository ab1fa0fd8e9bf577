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

/** The tables of an empty image, at one place: refcount table (a cluster), refcount blocks, L1 table. */
interface Layout {
  /** Cluster index of the refcount table; the blocks and the L1 table follow. */
  readonly first: number;
  /** Those that count all clusters up to the layout's end. */
  readonly blocks: number;
  readonly l1Clusters: number;
}

const HEADER_CLUSTERS = 1;
const FINAL = HEADER_CLUSTERS;

function layoutAt(first: number, { geometry, tables }: PlaceContext): Layout {
  const l1Clusters = divideUp(tables.l1Entries * 8, geometry.clusterSize);
  // A block counts itself, too.
  const blocks = divideUp(first + 1 + l1Clusters, geometry.refcountBlockEntries - 1);
  return { first, blocks, l1Clusters };
}

const lengthOf = ({ blocks, l1Clusters }: Layout): number => 1 + blocks + l1Clusters;
/** Cluster index of the L1 table. */
const l1Of = ({ first, blocks }: Layout): number => first + 1 + blocks;

/** Where the fast form can put its scratch tables; null where only the slow form will do. */
export function fastEmptyScratch(header: Header, context: PlaceContext): Layout | null {
  const plain =
    header.version >= 3 &&
    header.nbSnapshots === 0 &&
    header.cryptMethod !== CRYPT_LUKS &&
    (header.incompatibleFeatures & INCOMPATIBLE.externalDataFile) === 0n &&
    findExtension(header.extensions, EXTENSION.bitmaps) === undefined;
  const final = layoutAt(FINAL, context);
  if (!plain || final.blocks > 1) return null;
  const inUse = new Set(tableClusters(context));
  const mostBlocks = context.geometry.clusterSize / 8;
  for (let first = FINAL + lengthOf(final); ; first++) {
    const layout = layoutAt(first, context);
    if (layout.blocks > mostBlocks) return null;
    let free = 0;
    while (free < lengthOf(layout) && !inUse.has(first + free)) free++;
    if (free === lengthOf(layout)) return layout;
    first += free;
  }
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
  scratch: Layout,
): Promise<void> {
  const { geometry, tables } = context;
  storage.event?.('l1_update');
  await storage.write(tables.l1Offset, new Uint8Array(tables.l1Entries * 8), 'l1');
  await storage.flush();
  tables.structures.dropAll('active-l2');
  storage.event?.('empty_image_prepare');
  const final = layoutAt(FINAL, context);
  storage.event?.('reftable_update');
  if (liesAt(context, final)) {
    await writeRefcountBlocks(storage, geometry, final);
    await storage.flush();
  } else {
    for (const layout of [scratch, final]) {
      await writeTables(storage, geometry, layout);
      await storage.flush();
      await switchHeader(storage, geometry, layout);
      showTo(tables.structures, geometry, layout);
    }
  }
  // Whether the cut is durable makes no difference to what the image shows, or counts.
  const end = FINAL + lengthOf(final);
  if (storage.resizable) await storage.resize(end * geometry.clusterSize);
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
    tables.l1Offset === l1Of(layout) * clusterSize
  );
}

async function writeTables(storage: Storage, geometry: Geometry, layout: Layout): Promise<void> {
  const { clusterSize } = geometry;
  const table = new Uint8Array(clusterSize);
  for (let i = 0; i < layout.blocks; i++) {
    writeU64(viewOf(table), i * 8, (layout.first + 1 + i) * clusterSize);
  }
  await storage.write(layout.first * clusterSize, table, 'refcount-table');
  await writeRefcountBlocks(storage, geometry, layout);
  const l1 = new Uint8Array(layout.l1Clusters * clusterSize);
  await storage.write(l1Of(layout) * clusterSize, l1, 'l1');
}

/** From the switch on, those are the tables. */
function showTo(structures: Structures, { clusterSize }: Geometry, layout: Layout): void {
  const { first, blocks, l1Clusters } = layout;
  structures.place('refcount-table', { offset: first * clusterSize, length: clusterSize });
  structures.dropAll('refcount-block');
  for (let i = 0; i < blocks; i++) {
    structures.add('refcount-block', (first + 1 + i) * clusterSize);
  }
  const l1 = { offset: l1Of(layout) * clusterSize, length: l1Clusters * clusterSize };
  structures.place('active-l1', l1);
}

async function writeRefcountBlocks(
  storage: Storage,
  { clusterSize, refcountBlockEntries, refcountOrder }: Geometry,
  layout: Layout,
): Promise<void> {
  const { first, blocks } = layout;
  const end = first + lengthOf(layout);
  storage.event?.('refblock_alloc');
  for (let i = 0; i < blocks; i++) {
    const block = new Uint8Array(clusterSize);
    const counted = i * refcountBlockEntries;
    if (i === 0) setRefcount(block, 0, refcountOrder, 1);
    const last = Math.min(end, counted + refcountBlockEntries);
    for (let index = Math.max(first, counted); index < last; index++) {
      setRefcount(block, index - counted, refcountOrder, 1);
    }
    await storage.write((first + 1 + i) * clusterSize, block, 'refcount-block');
  }
}

async function switchHeader(
  storage: Storage,
  { clusterSize }: Geometry,
  layout: Layout,
): Promise<void> {
  const sector = new Uint8Array(SECTOR);
  await storage.read(0, sector);
  writeField(sector, HEADER.refcountTableOffset, layout.first * clusterSize);
  writeField(sector, HEADER.refcountTableClusters, 1);
  writeField(sector, HEADER.l1TableOffset, l1Of(layout) * clusterSize);
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
