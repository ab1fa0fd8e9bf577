// The change of the map after the bytes have gone where `place` said, and changes without bytes: zero
// flags, entries that go. Called by the holder of the image's queue.

import { assert } from '../errors.ts';
import type { Part } from './completion.ts';
import type { Geometry } from './geometry.ts';
import { clusterIndexOf, l1IndexOf, l2IndexOf } from './geometry.ts';
import { encodeEntry, type L2Entry } from './l2-entry.ts';
import { entryAt, exclusiveL2, type PlaceContext, type Placement, within } from './place.ts';
import {
  ALL_SUBCLUSTERS,
  allocatedAt,
  bitsBetween,
  setSubclusters,
  zeroedAt,
} from './subclusters.ts';
import type { Table } from './table-cache.ts';

/**
 * The map now points to the placements; clusters that it pointed to before are let go. `zero`: they
 * are kept for later, and read as zeros (version 3, no subclusters).
 */
export async function publish(
  context: PlaceContext,
  placements: Iterable<Placement>,
  zero: boolean,
): Promise<void> {
  const { geometry, tables } = context;
  const { clusterSize, extendedL2 } = geometry;
  for (const { guest, host, clusters, state, from, to } of placements) {
    if (state === 'in-place') continue;
    await forEachCluster(context, guest, clusters, (table, position, i) => {
      const at = guest + i * clusterSize;
      const old = entryAt(context, table, at);
      const place = host + i * clusterSize;
      release(context, old, place);
      encodeEntry(table.view, position, place, { copied: true, zero });
      if (extendedL2) {
        const written = within(geometry, at, from, to);
        publishSubclusters(geometry, table.view, position, old, place, written);
      }
      tables.touched(table, position);
    });
  }
}

function publishSubclusters(
  { subclusterSize }: Geometry,
  view: DataView,
  position: number,
  old: L2Entry,
  host: number,
  { from, to }: Part,
): void {
  const written = bitsBetween(Math.floor(from / subclusterSize), Math.ceil(to / subclusterSize));
  // The bitmap of a compressed cluster means nothing.
  const had = old.kind === 'compressed' ? 0 : ALL_SUBCLUSTERS;
  const allocated = allocatedAt(view, position) & had;
  const zeroed = zeroedAt(view, position) & had;
  const isSameCluster = old.kind === 'data' && old.host === host;
  assert(isSameCluster || (allocated & ~written) === 0, 'subclusters left behind');
  setSubclusters(view, position, allocated | written, zeroed & ~written);
}

/**
 * Whole clusters get the zero flag (`zero`) or lose their entry (`unallocated`); their host
 * clusters are let go.
 */
export async function unmap(
  context: PlaceContext,
  guest: number,
  clusters: number,
  becomes: 'zero' | 'unallocated',
): Promise<void> {
  const { clusterSize, extendedL2 } = context.geometry;
  const isZero = becomes === 'zero';
  const zeroed = isZero ? ALL_SUBCLUSTERS : 0;
  await forEachCluster(context, guest, clusters, (table, position, i) => {
    const old = entryAt(context, table, guest + i * clusterSize);
    if (extendedL2) {
      if (old.kind === 'unallocated' && zeroedAt(table.view, position) === zeroed) return;
      setSubclusters(table.view, position, 0, zeroed);
    } else if (old.kind === becomes && !(old.kind === 'zero' && old.host !== null)) return;
    release(context, old, -1);
    encodeEntry(table.view, position, 0, { copied: false, zero: isZero && !extendedL2 });
    context.tables.touched(table, position);
  });
}

/**
 * Whole subclusters of one cluster get the zero flag; their room stays, as it can't be let go by
 * itself. False, and nothing is changed, where the cluster is compressed: it has no subclusters.
 */
export async function zeroPart(
  context: PlaceContext,
  guest: number,
  length: number,
): Promise<boolean> {
  const { geometry, tables } = context;
  const { subclusterSize, clusterSize } = geometry;
  const table = await exclusiveL2(context, l1IndexOf(guest, geometry));
  if (entryAt(context, table, guest).kind === 'compressed') return false;
  const { view } = table;
  const position = l2IndexOf(guest, geometry) * geometry.l2EntryBytes;
  const first = (guest % clusterSize) / subclusterSize;
  const bits = bitsBetween(first, first + length / subclusterSize);
  const allocated = allocatedAt(view, position) & ~bits;
  setSubclusters(view, position, allocated, zeroedAt(view, position) | bits);
  tables.touched(table, position);
  return true;
}

/** Calls `change` for each entry of a range of clusters, in tables that are ours alone. */
export async function forEachCluster(
  context: PlaceContext,
  guest: number,
  clusters: number,
  change: (table: Table, position: number, i: number) => void,
): Promise<void> {
  const { geometry } = context;
  for (let i = 0; i < clusters; ) {
    const offset = guest + i * geometry.clusterSize;
    const table = await exclusiveL2(context, l1IndexOf(offset, geometry));
    const first = l2IndexOf(offset, geometry);
    const count = Math.min(clusters - i, geometry.l2Entries - first);
    for (let n = 0; n < count; n++) {
      change(table, (first + n) * geometry.l2EntryBytes, i + n);
    }
    i += count;
  }
}

/** Lets go of the host clusters of an entry that is being replaced, but not of `kept`. */
export function release(context: PlaceContext, entry: L2Entry, kept: number): void {
  const { geometry, tables } = context;
  if (entry.kind === 'unallocated') return;
  if (entry.kind === 'compressed') {
    const { first, count } = compressedClusters(geometry, entry.host, entry.lengthBytes);
    tables.free(first, count);
  } else if (entry.host !== null && entry.host !== kept && !geometry.externalData) {
    tables.free(clusterIndexOf(entry.host, geometry), 1);
  }
}

/** The host clusters that a compressed cluster touches; each carries one reference of it. */
export function compressedClusters(
  geometry: Geometry,
  host: number,
  lengthBytes: number,
): { readonly first: number; readonly count: number } {
  const first = clusterIndexOf(host, geometry);
  return { first, count: clusterIndexOf(host + lengthBytes - 1, geometry) - first + 1 };
}
