// Where the bytes of a guest range go before they go there, and the change of the map afterwards:
// place, (somebody moves the bytes), publish. Called by the holder of the image's queue.

import { ImageError } from '../errors.ts';
import { alignDown, type HostOffset, hostOffset } from '../units.ts';
import type { Allocator } from './allocator.ts';
import { hex } from './corruption.ts';
import type { Geometry } from './geometry.ts';
import { clusterIndexOf, l1IndexOf, l2IndexOf } from './geometry.ts';
import { checkExternal, decodeL2Entry, encodeEntry, type L2Entry, misplaced } from './l2-entry.ts';
import type { MapContext } from './mapping.ts';
import type { Claim } from './overlap.ts';
import type { Table } from './table-cache.ts';

export interface PlaceContext extends MapContext {
  readonly allocator: Allocator;
}

/** Whole guest clusters and the host clusters, in one piece, that hold or will hold them. */
export interface Placement {
  /** First byte on the guest's disk; aligned to the cluster. */
  readonly guest: number;
  readonly host: HostOffset;
  clusters: number;
  /**
   * `in-place`: the map points here already. `new`: nothing points here yet, and every byte of the
   * clusters has to be written before it is published.
   */
  readonly state: 'in-place' | 'new';
  /** `new` only: it was free before, so giving up means freeing it. */
  readonly taken: boolean;
  /** `new` only: reads as zeros already. */
  readonly zeroed: boolean;
}

/** Places for all clusters that the range touches, in guest order. */
export async function place(
  context: PlaceContext,
  offset: number,
  length: number,
): Promise<Placement[]> {
  const { clusterSize } = context.geometry;
  const placements: Placement[] = [];
  const end = offset + length;
  for (let guest = alignDown(offset, clusterSize); guest < end; ) {
    const table = await exclusiveL2(context, l1IndexOf(guest, context.geometry));
    const entry = entryAt(context, table, guest);
    if (entry.kind === 'data' && entry.copied) {
      if (!context.data.external) {
        context.tables.checkInFile('a data cluster', entry.host);
        await checkRefcount(context, entry.host, 'data');
      }
      append(placements, clusterSize, guest, entry.host, 'in-place', false, false);
      guest += clusterSize;
    } else if (context.data.external) {
      append(placements, clusterSize, guest, hostOffset(guest), 'new', false, false);
      guest += clusterSize;
    } else if (entry.kind === 'zero' && entry.host !== null && entry.copied) {
      await checkRefcount(context, entry.host, 'data');
      append(placements, clusterSize, guest, entry.host, 'new', false, false);
      guest += clusterSize;
    } else {
      const wanted = countNeedingNew(context, table, guest, end);
      const run = await context.allocator.take(wanted);
      const first = { guest, host: run.host, clusters: run.count, taken: true } as const;
      const last = placements.at(-1);
      if (last && continues(last, clusterSize, guest, run.host, 'new', true, run.zeroed)) {
        last.clusters += run.count;
      } else placements.push({ ...first, state: 'new', zeroed: run.zeroed });
      guest += run.count * clusterSize;
    }
  }
  return placements;
}

/** The map now points to the placements; clusters that it pointed to before are let go. */
export async function publish(
  context: PlaceContext,
  placements: readonly Placement[],
): Promise<void> {
  for (const { guest, host, clusters, state } of placements) {
    if (state === 'in-place') continue;
    const { clusterSize } = context.geometry;
    await forEachCluster(context, guest, clusters, (table, position, i) => {
      release(context, entryAt(context, table, guest + i * clusterSize), host + i * clusterSize);
      encodeEntry(table.view, position, host + i * clusterSize, { copied: true, zero: false });
      context.tables.touched(table, position);
    });
  }
}

/** Gives back what `place` took, when the bytes could not be moved. */
export function abandon(context: PlaceContext, placements: readonly Placement[]): void {
  for (const { host, clusters, taken } of placements) {
    if (taken) context.tables.free(clusterIndexOf(host, context.geometry), clusters);
  }
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
  const { clusterSize } = context.geometry;
  await forEachCluster(context, guest, clusters, (table, position, i) => {
    const old = entryAt(context, table, guest + i * clusterSize);
    if (old.kind === becomes && !(old.kind === 'zero' && old.host !== null)) return;
    release(context, old, -1);
    encodeEntry(table.view, position, 0, { copied: false, zero: becomes === 'zero' });
    context.tables.touched(table, position);
  });
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

/** The L2 table for an L1 index, ours alone: made or copied first where it is not. */
async function exclusiveL2(context: PlaceContext, l1Index: number): Promise<Table> {
  const { tables, allocator } = context;
  const { offset, copied } = tables.l1Entry(l1Index);
  if (offset !== 0 && copied) {
    const table = await tables.l2Table(offset);
    if (!table.checked) await checkRefcount(context, hostOffset(offset), 'l2');
    table.checked = true;
    // Loaded again: while the refcount was read, a clean table may have left the cache.
    return tables.l2Table(offset);
  }
  const { host } = await allocator.take(1);
  const content = offset === 0 ? undefined : (await tables.l2Table(offset)).bytes;
  const table = tables.newL2Table(host, content);
  table.checked = true;
  tables.setL1Entry(l1Index, host);
  if (offset !== 0) tables.dropL2Table(offset);
  return table;
}

/** What is marked COPIED must have a refcount of one, or somebody else's cluster gets written. */
async function checkRefcount(context: PlaceContext, host: HostOffset, claim: Claim): Promise<void> {
  const { tables, geometry } = context;
  await tables.loadRefcountTable();
  tables.structures.check(host, 1, claim);
  const count = await tables.refcount(clusterIndexOf(host, geometry));
  if (count === 1) return;
  throw tables.corrupt(
    `Cluster at offset ${hex(host)} is marked as used once, but its refcount is ${count}`,
  );
}

export function entryAt(context: PlaceContext, table: Table, guest: number): L2Entry {
  const { geometry, version } = context;
  const position = l2IndexOf(guest, geometry) * geometry.l2EntryBytes;
  const { view } = table;
  const high = view.getUint32(position);
  const low = view.getUint32(position + 4);
  try {
    const entry = decodeL2Entry(high, low, geometry, version);
    if (geometry.externalData) checkExternal(entry, alignDown(guest, geometry.clusterSize));
    return entry;
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const { host, unaligned } = misplaced(high, low, geometry.clusterSize);
    const what = unaligned ? `Data cluster offset ${hex(host)} unaligned` : error.message;
    throw context.tables.corrupt(`${what} (guest offset: ${hex(guest)})`);
  }
}

function countNeedingNew(context: PlaceContext, table: Table, guest: number, end: number): number {
  const { clusterSize, l2Coverage } = context.geometry;
  const stop = Math.min(end, alignDown(guest, l2Coverage) + l2Coverage);
  let count = 0;
  for (let at = guest; at < stop; at += clusterSize) {
    const entry = entryAt(context, table, at);
    const hasOwn = (entry.kind === 'data' || entry.kind === 'zero') && entry.copied;
    if (hasOwn && entry.host !== null) break;
    count++;
  }
  return count;
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

function append(
  placements: Placement[],
  clusterSize: number,
  guest: number,
  host: HostOffset,
  state: Placement['state'],
  taken: boolean,
  zeroed: boolean,
): void {
  const last = placements.at(-1);
  if (last && continues(last, clusterSize, guest, host, state, taken, zeroed)) last.clusters++;
  else placements.push({ guest, host, clusters: 1, state, taken, zeroed });
}

function continues(
  last: Placement,
  clusterSize: number,
  guest: number,
  host: number,
  state: Placement['state'],
  taken: boolean,
  zeroed: boolean,
): boolean {
  const length = last.clusters * clusterSize;
  return (
    last.state === state &&
    last.taken === taken &&
    last.zeroed === zeroed &&
    last.guest + length === guest &&
    last.host + length === host
  );
}
