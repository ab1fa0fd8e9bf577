// New refcounts from what the tables point to, and new places for tables that share theirs with
// something else: written where nothing points, made durable, and switched to by one write of the
// header's first sector. Before it everything is as it was; after it, nothing of the old is in use.

import { assert, ImageError } from '../errors.ts';
import { viewOf, writeU64 } from './fields.ts';
import { type Geometry, refcountTableIndexOf } from './geometry.ts';
import { type HeaderPatch, HeaderSector } from './header-sector.ts';
import { clusterOffset, encodeEntry } from './l2-entry.ts';
import { setRefcount } from './refcount.ts';
import { type ReferenceCounts, rangesOf } from './reference-counts.ts';
import { readTable } from './reference-walk.ts';
import { countReferences } from './references.ts';
import { clustersFor, FreeSpace } from './repair-space.ts';
import { QUIET, type RepairState, stateOf } from './repair-state.ts';
import { encodeSnapshotTable } from './snapshots.ts';
import { MAX_REFCOUNT_TABLE_BYTES } from './spec.ts';

export interface Renewal {
  /** The active L1 table gets another place; needed where L2 tables do. */
  readonly l1: boolean;
  /** What it is to hold; default: what it holds. */
  readonly l1Table?: Uint8Array | undefined;
  /** Offsets of L2 tables of the active state that get another place. */
  readonly l2Tables: ReadonlySet<number>;
  /** Puts right what is wrong with the entries of a table that moves. */
  readonly mend?: (table: Uint8Array) => void;
  /** The snapshot table is written anew, as it was read. */
  readonly snapshotTable: boolean;
}

export const REFCOUNTS_ONLY: Renewal = { l1: false, l2Tables: new Set(), snapshotTable: false };

/** Durable when it resolves; the state has to be read anew. */
export async function renew(state: RepairState, renewal: Renewal): Promise<void> {
  const { storage } = state;
  const dropped = renewal.snapshotTable ? state.header.snapshotsOffset : undefined;
  const space = await FreeSpace.survey(state, dropped);
  const patch: HeaderPatch = {};
  if (renewal.l1) patch.l1TableOffset = await moveTables(state, renewal, space);
  const length = renewal.snapshotTable ? await writeSnapshotTable(state, space, patch) : undefined;
  const { snapshotTable } = state;
  const next = stateOf(storage, { ...state.header, ...patch, ...NO_REFCOUNTS }, state.geometry, {
    snapshotTable: length === undefined ? snapshotTable : { ...snapshotTable, length },
  });
  const refcounts = await writeRefcounts(next, space);
  await storage.flush();
  const header = await HeaderSector.read(storage);
  await header.write({ ...patch, ...refcounts });
  await storage.flush();
}

const NO_REFCOUNTS = { refcountTableOffset: 0, refcountTableClusters: 0 } as const;

/** Returns the place of the new L1 table. */
async function moveTables(
  { storage, geometry, tables }: RepairState,
  { l1Table, l2Tables, mend }: Renewal,
  space: FreeSpace,
): Promise<number> {
  const l1 = l1Table ?? (await readTable(storage, tables.l1Offset, tables.l1Entries * 8));
  const view = viewOf(l1);
  const copies = new Map<number, number>();
  for (let at = 0; at < l1.length; at += 8) {
    const offset = clusterOffset(view.getUint32(at), view.getUint32(at + 4));
    if (offset === 0 || !l2Tables.has(offset)) continue;
    let copy = copies.get(offset);
    if (copy === undefined) {
      copy = space.take(1);
      copies.set(offset, copy);
      const table = await readTable(storage, offset, geometry.clusterSize);
      mend?.(table);
      await storage.write(copy, table, 'l2');
    }
    // Whether it is used once, the next look at the flags says.
    encodeEntry(view, at, copy, { copied: true, zero: false });
  }
  const place = space.take(clustersFor(l1.length, geometry));
  await storage.write(place, l1, 'l1');
  return place;
}

/** Returns its length. */
async function writeSnapshotTable(
  { storage, geometry, snapshotTable }: RepairState,
  space: FreeSpace,
  patch: HeaderPatch,
): Promise<number> {
  const bytes = encodeSnapshotTable(snapshotTable.snapshots);
  patch.nbSnapshots = snapshotTable.snapshots.length;
  patch.snapshotsOffset = 0;
  if (bytes.length === 0) return 0;
  patch.snapshotsOffset = space.take(clustersFor(bytes.length, geometry));
  await storage.write(patch.snapshotsOffset, bytes, 'snapshot-table');
  return bytes.length;
}

type RefcountPlace = Required<Pick<HeaderPatch, 'refcountTableOffset' | 'refcountTableClusters'>>;

/** All refcounts of `next`, which has none, and of what they take themselves. */
async function writeRefcounts(next: RepairState, space: FreeSpace): Promise<RefcountPlace> {
  const { storage, geometry } = next;
  const { places, table } = place(next, space);
  // What something points to past the end counts once the file reaches there.
  if (storage.resizable && space.fileSize > storage.size) await storage.resize(space.fileSize);
  const own = ownClusters(places, table, geometry);
  const ranges = rangesOf(next);
  for (const range of ranges) {
    const counts = await countReferences(next, QUIET, range);
    const first = refcountTableIndexOf(range.first, geometry);
    const isLast = range === ranges.at(-1);
    const end = isLast
      ? Number.POSITIVE_INFINITY
      : first + range.count / geometry.refcountBlockEntries;
    for (const [index, offset] of places) {
      if (index < first || index >= end) continue;
      const block = encodeBlock(index, counts, own.get(index) ?? [], geometry);
      await storage.write(offset, block, 'refcount-block');
    }
    counts.release();
  }
  const bytes = new Uint8Array(table.clusters * geometry.clusterSize);
  for (const [index, offset] of places) writeU64(viewOf(bytes), index * 8, offset);
  await storage.write(table.offset, bytes, 'refcount-table');
  return { refcountTableOffset: table.offset, refcountTableClusters: table.clusters };
}

interface RefcountTable {
  readonly offset: number;
  readonly clusters: number;
}

/** Places for a table and all blocks; they are in use themselves, which may take more of them. */
function place(
  { storage, geometry }: RepairState,
  space: FreeSpace,
): { readonly places: ReadonlyMap<number, number>; readonly table: RefcountTable } {
  const places = new Map<number, number>();
  let table: RefcountTable = { offset: 0, clusters: 0 };
  for (;;) {
    // A set hands out what is added while it is gone through.
    for (const index of space.blocks) if (!places.has(index)) places.set(index, space.take(1));
    let last = 0;
    for (const index of places.keys()) last = Math.max(last, index);
    const clusters = clustersFor((last + 1) * 8, geometry);
    if (clusters * geometry.clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
      throw new ImageError(
        'no-space',
        `${storage.filename}: the refcount table can't grow beyond 8 MiB`,
        { errno: 'EFBIG' },
      );
    }
    if (clusters <= table.clusters) return { places, table };
    table = { offset: space.take(clusters), clusters };
  }
}

/** Index of a refcount block -> clusters that it covers of the new structure. */
function ownClusters(
  places: ReadonlyMap<number, number>,
  table: RefcountTable,
  geometry: Geometry,
): ReadonlyMap<number, readonly number[]> {
  const own = new Map<number, number[]>();
  const add = (offset: number): void => {
    const cluster = offset / geometry.clusterSize;
    const index = refcountTableIndexOf(cluster, geometry);
    const clusters = own.get(index);
    if (clusters === undefined) own.set(index, [cluster]);
    else clusters.push(cluster);
  };
  for (const offset of places.values()) add(offset);
  for (let i = 0; i < table.clusters; i++) add(table.offset + i * geometry.clusterSize);
  return own;
}

function encodeBlock(
  index: number,
  counts: ReferenceCounts,
  own: readonly number[],
  { refcountBlockEntries, refcountOrder, clusterSize, maxRefcount }: Geometry,
): Uint8Array {
  const block = new Uint8Array(clusterSize);
  const first = index * refcountBlockEntries;
  for (let within = 0; within < refcountBlockEntries; within++) {
    const count = counts.get(first + within);
    if (count > 0) setRefcount(block, within, refcountOrder, Math.min(count, maxRefcount));
  }
  for (const cluster of own) {
    assert(counts.get(cluster) === 0, 'a new structure in a cluster that is in use');
    setRefcount(block, cluster - first, refcountOrder, 1);
  }
  return block;
}
