// Bitmaps of which something lies past the end of the file: what it said can't be known. All those
// bits count as set, so that nobody misses what changed.

import type { Storage } from '../io/storage.ts';
import { type BitmapEntry, readBitmapDirectory } from './bitmap-directory.ts';
import { directoryPlaceIn } from './bitmap-publish.ts';
import { ALL_ONES, readBitmapTable } from './bitmap-table.ts';
import type { Tell } from './check-findings.ts';
import { viewOf, writeU64 } from './fields.ts';
import { clusterIndexOf } from './geometry.ts';
import { rangesOf } from './reference-counts.ts';
import type { ReferenceVisitor } from './reference-walk.ts';
import { countReferences } from './references.ts';
import { clustersFor, FreeSpace } from './repair-space.ts';
import { QUIET, type RepairState } from './repair-state.ts';

/** A pointer past the end of the file. */
interface Lost {
  readonly what: string;
  /** Where the pointer lies. */
  readonly at: number;
  readonly offset: number;
  /** Of the table that is lost; a cluster of bits if there is none. */
  readonly entries?: number;
}

/**
 * Returns how many pointers were put right; one that shares its cluster with something else stays.
 * A new table gets its refcount by the repair that follows.
 */
export async function mendLostBits(state: RepairState, tell: Tell): Promise<number> {
  const { storage } = state;
  const found = await findLost(state);
  if (found.length === 0) return 0;
  const lost = await unsharedOf(found, state);
  const tables = await writeTables(lost, state);
  for (const each of lost) {
    const pointer = new Uint8Array(8);
    writeU64(viewOf(pointer), 0, tables.get(each) ?? ALL_ONES);
    await storage.write(each.at, pointer, 'bitmap');
    const offset = `offset=0x${each.offset.toString(16)}`;
    const what = `${each.what}: ${offset} is past the end of the file; its bits are set`;
    tell(`Repairing ${what}`, 'corruption');
  }
  await storage.flush();
  return lost.length;
}

async function findLost({ storage, header, geometry }: RepairState): Promise<Lost[]> {
  const place = directoryPlaceIn(header);
  if (place === null) return [];
  const { clusterSize } = geometry;
  const lost: Lost[] = [];
  for (const entry of await readBitmapDirectory(storage, header)) {
    const { name, tableOffset, tableEntries } = entry;
    if (isLost(storage, tableOffset, tableEntries * 8, clusterSize)) {
      const at = place.directoryOffset + entry.position;
      lost.push({
        what: `table of bitmap '${name}'`,
        at,
        offset: tableOffset,
        entries: tableEntries,
      });
    } else lost.push(...(await lostIn(entry, storage, clusterSize)));
  }
  return lost;
}

async function lostIn(entry: BitmapEntry, storage: Storage, clusterSize: number): Promise<Lost[]> {
  const lost: Lost[] = [];
  const table = await readBitmapTable(storage, entry, clusterSize);
  for (const [index, offset] of table.entries()) {
    if (offset <= ALL_ONES || !isLost(storage, offset, clusterSize, clusterSize)) continue;
    const what = `bitmap '${entry.name}', table entry ${index}`;
    lost.push({ what, at: entry.tableOffset + index * 8, offset });
  }
  return lost;
}

/** The last cluster may be there in part. */
function isLost(storage: Storage, offset: number, length: number, clusterSize: number): boolean {
  return offset + length - storage.size >= clusterSize;
}

async function unsharedOf(lost: readonly Lost[], state: RepairState): Promise<Lost[]> {
  const unshared: Lost[] = [];
  const overflowed = new Set<number>();
  const visitor: ReferenceVisitor = { ...QUIET, overflow: (cluster) => overflowed.add(cluster) };
  for (const range of rangesOf(state)) {
    const counts = await countReferences(state, visitor, range);
    for (const each of lost) {
      const cluster = clusterIndexOf(each.at, state.geometry);
      if (counts.get(cluster) === 1 && !overflowed.has(cluster)) unshared.push(each);
    }
    counts.release();
  }
  return unshared;
}

/** Durable, in clusters that nothing uses. */
async function writeTables(
  lost: readonly Lost[],
  state: RepairState,
): Promise<ReadonlyMap<Lost, number>> {
  const { storage, geometry } = state;
  const tables = new Map<Lost, number>();
  const gone = lost.filter(({ entries }) => entries !== undefined);
  if (gone.length === 0) return tables;
  const space = await FreeSpace.survey(state);
  for (const each of gone) {
    const { entries = 0 } = each;
    const clusters = clustersFor(entries * 8, geometry);
    const bytes = new Uint8Array(clusters * geometry.clusterSize);
    for (let i = 0; i < entries; i++) writeU64(viewOf(bytes), i * 8, ALL_ONES);
    const offset = space.take(clusters);
    await storage.write(offset, bytes, 'bitmap');
    tables.set(each, offset);
  }
  await storage.flush();
  return tables;
}
