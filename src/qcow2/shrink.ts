// A smaller disk. Who cuts it can't want to be left with half of it, so the header goes first: one
// write of its sector takes the size and, with the end of the L1 table, all L2 tables past the new
// end away. Before it everything is as it was; after it nothing past the new end is seen. Then the
// entries of the one L2 table that stays in part are cleared, in place, and only when nothing points
// there any more do refcounts drop. Needs no room, so that it works on a full disk.

import type { Storage } from '../io/storage.ts';
import { alignUp, divideUp } from '../units.ts';
import { cutFile, dropUnusedRefcountBlocks } from './file-end.ts';
import { l1EntriesFor, l1IndexOf, l2IndexOf } from './geometry.ts';
import { l2EntryAt } from './l2-table.ts';
import type { PlaceContext } from './place.ts';
import { release, unmap } from './publish.ts';

/**
 * Cuts the disk to `size` bytes, its present size perhaps, and gives back what lies past it; `reload`
 * reads all tables anew. Called by who keeps everybody else away; durable when it resolves.
 */
export async function shrinkImage(
  storage: Storage,
  before: PlaceContext,
  size: number,
  reload: () => Promise<PlaceContext>,
): Promise<void> {
  const { tables, geometry } = before;
  await tables.checkpoint();
  await tables.loadRefcountTable();
  const l1Size = Math.min(l1EntriesFor(size, geometry), tables.l1Entries);
  const gone = tablesFrom(before, l1Size);
  const l1 = { offset: tables.l1Offset, entries: tables.l1Entries };
  storage.event?.('l1_shrink_write_table');
  await tables.patchHeaderNow({ size, l1Size });
  const context = await reload();
  await context.tables.loadRefcountTable();
  await wipeTail(context, size);
  await clearPartialTable(context, size);
  storage.event?.('l1_shrink_free_l2_clusters');
  for (const offset of gone) await dropTable(context, offset);
  freeL1Tail(context, l1, l1Size);
  await context.tables.checkpoint();
  await dropUnusedRefcountBlocks(context);
  await cutFile(storage, context);
  await reload();
}

/** Offsets of the L2 tables that L1 entries from `first` on point to. */
function tablesFrom({ tables }: PlaceContext, first: number): readonly number[] {
  const offsets: number[] = [];
  const end = tables.l1Entries;
  for (let i = tables.nextL2(first, end); i < end; i = tables.nextL2(i + 1, end)) {
    offsets.push(tables.l1Entry(i).offset);
  }
  return offsets;
}

/** The entries past the end in the table that the disk ends in. */
async function clearPartialTable(context: PlaceContext, size: number): Promise<void> {
  const { geometry, tables } = context;
  const start = alignUp(size, geometry.clusterSize);
  const end = alignUp(size, geometry.l2Coverage);
  const last = l1EntriesFor(size, geometry) - 1;
  if (start === end || last >= tables.l1Entries || tables.l1Entry(last).offset === 0) return;
  await unmap(context, start, (end - start) / geometry.clusterSize, 'unallocated');
}

/**
 * What the last cluster has past the end is not to come back when the disk grows, by whatever makes
 * it grow. A cluster that a snapshot has too stays as it is.
 */
async function wipeTail(context: PlaceContext, size: number): Promise<void> {
  const { geometry, tables, data, version } = context;
  const within = size % geometry.clusterSize;
  const l1Index = l1IndexOf(size, geometry);
  if (within === 0 || data.external || l1Index >= tables.l1Entries) return;
  const { offset, copied } = tables.l1Entry(l1Index);
  if (offset === 0 || !copied) return;
  const table = await tables.l2Table(offset);
  const entry = l2EntryAt(table, l2IndexOf(size, geometry), geometry, version);
  if (entry.kind !== 'data' || !entry.copied) return;
  await data.write(entry.host + within, size, new Uint8Array(geometry.clusterSize - within));
}

/** Nothing points to this L2 table any more: lets go of it, and of what it points to. */
async function dropTable(context: PlaceContext, offset: number): Promise<void> {
  const { tables } = context;
  await releaseTable(context, offset);
  tables.dropL2Table(offset);
  if (tables.full) await tables.checkpoint();
}

/** Lets go of all that an L2 table points to. */
export async function releaseTable(context: PlaceContext, offset: number): Promise<void> {
  const { geometry, tables, version } = context;
  const table = await tables.l2Table(offset);
  for (let entry = 0; entry < geometry.l2Entries; entry++) {
    release(context, l2EntryAt(table, entry, geometry, version), -1);
  }
}

/** The clusters that only the end of the L1 table took. */
function freeL1Tail(
  { geometry, tables }: PlaceContext,
  l1: { readonly offset: number; readonly entries: number },
  l1Size: number,
): void {
  const { clusterSize } = geometry;
  const first = divideUp(l1Size * 8, clusterSize);
  const count = divideUp(l1.entries * 8, clusterSize) - first;
  if (count > 0) tables.free(l1.offset / clusterSize + first, count);
}
