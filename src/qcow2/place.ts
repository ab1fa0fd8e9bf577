// Where the bytes of a guest range go, before they go there: place, (somebody moves the bytes),
// publish. Called by the holder of the image's queue.

import { ImageError } from '../errors.ts';
import type { WriteKind } from '../io/storage.ts';
import { alignDown, type HostOffset, hostOffset } from '../units.ts';
import type { Allocator } from './allocator.ts';
import { missingIn, neededInNew, type Part } from './completion.ts';
import { hex } from './corruption.ts';
import type { Geometry } from './geometry.ts';
import { clusterIndexOf, l1IndexOf, l2IndexOf } from './geometry.ts';
import { checkExternal, type L2Entry, misplaced } from './l2-entry.ts';
import { l2EntryAt } from './l2-table.ts';
import type { MapContext } from './mapping.ts';
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
   * `in-place`: the map says already that these bytes are here. `new`: it does not yet, and all of
   * `from .. to` has to be written before it is published.
   */
  readonly state: 'in-place' | 'new';
  /** `new` only: it was free before, so giving up means freeing it. */
  readonly taken: boolean;
  /** `new` only: reads as zeros already. */
  readonly zeroed: boolean;
  /**
   * Bytes of the guest's disk that the map says are here, once published: all of the clusters, but
   * with subclusters a part. What it says about the others stays.
   */
  readonly from: number;
  to: number;
}

type PlacementKind = Pick<Placement, 'state' | 'taken' | 'zeroed'>;

const IN_PLACE: PlacementKind = { state: 'in-place', taken: false, zeroed: false };
const OWN: PlacementKind = { state: 'new', taken: false, zeroed: false };
const TAKEN: PlacementKind = { state: 'new', taken: true, zeroed: false };
const TAKEN_ZEROED: PlacementKind = { state: 'new', taken: true, zeroed: true };

/** Places for all clusters that the range touches, in guest order. */
export async function place(
  context: PlaceContext,
  offset: number,
  length: number,
): Promise<Placement[]> {
  const { geometry } = context;
  const { clusterSize } = geometry;
  const placements: Placement[] = [];
  const end = offset + length;
  for (let guest = alignDown(offset, clusterSize); guest < end; ) {
    const table = await exclusiveL2(context, l1IndexOf(guest, geometry));
    const entry = entryAt(context, table, guest);
    if ((entry.kind === 'data' || entry.kind === 'zero') && entry.host !== null && entry.copied) {
      if (!geometry.externalData) {
        if (entry.kind === 'data') context.tables.checkInFile('a data cluster', entry.host);
        await checkRefcount(context, entry.host, 'data');
      }
      const whole = { from: guest, to: guest + clusterSize };
      const missing = geometry.extendedL2 ? missingAt(context, table, guest, offset, end) : null;
      const isInPlace = entry.kind === 'data' && missing === null;
      const kind = isInPlace ? IN_PLACE : OWN;
      append(placements, clusterSize, guest, entry.host, 1, kind, missing ?? whole);
      guest += clusterSize;
    } else if (geometry.externalData) {
      const part = neededAt(context, table, guest, entry, offset, end);
      append(placements, clusterSize, guest, hostOffset(guest), 1, OWN, part);
      guest += clusterSize;
    } else {
      const wanted = countNeedingNew(context, table, guest, end);
      const { host, count, zeroed } = await context.allocator.take(wanted);
      const last = guest + (count - 1) * clusterSize;
      const { from } = neededAt(context, table, guest, entry, offset, end);
      const lastEntry = count === 1 ? entry : entryAt(context, table, last);
      const { to } = neededAt(context, table, last, lastEntry, offset, end);
      const kind = zeroed ? TAKEN_ZEROED : TAKEN;
      append(placements, clusterSize, guest, host, count, kind, { from, to });
      guest += count * clusterSize;
    }
  }
  return placements;
}

/** The part of the cluster at `guest` that is written; offsets on the guest's disk come back. */
function missingAt(
  { geometry }: PlaceContext,
  { view }: Table,
  guest: number,
  start: number,
  end: number,
): Part | null {
  const position = l2IndexOf(guest, geometry) * geometry.l2EntryBytes;
  const part = missingIn(geometry, view, position, within(geometry, guest, start, end));
  return part && { from: guest + part.from, to: guest + part.to };
}

function neededAt(
  { geometry }: PlaceContext,
  { view }: Table,
  guest: number,
  entry: L2Entry,
  start: number,
  end: number,
): Part {
  const position = l2IndexOf(guest, geometry) * geometry.l2EntryBytes;
  const part = neededInNew(geometry, view, position, entry, within(geometry, guest, start, end));
  return { from: guest + part.from, to: guest + part.to };
}

/** What `start .. end` has of the cluster at `guest`, counted from there. */
export function within({ clusterSize }: Geometry, guest: number, start: number, end: number): Part {
  const inside = (offset: number) => Math.min(Math.max(offset - guest, 0), clusterSize);
  return { from: inside(start), to: inside(end) };
}

/** Gives back what `place` took, when the bytes could not be moved. */
export function abandon(
  context: PlaceContext,
  placements: readonly Pick<Placement, 'host' | 'clusters' | 'taken'>[],
): void {
  for (const { host, clusters, taken } of placements) {
    if (taken) context.tables.free(clusterIndexOf(host, context.geometry), clusters);
  }
}

/** The L2 table for an L1 index, ours alone: made or copied first where it is not. */
export async function exclusiveL2(context: PlaceContext, l1Index: number): Promise<Table> {
  const { tables, allocator } = context;
  const { offset, copied } = tables.l1Entry(l1Index);
  if (offset !== 0 && copied) {
    const table = await tables.l2Table(offset);
    if (table.checked) return table;
    await checkRefcount(context, hostOffset(offset), 'l2');
    table.checked = true;
    // Loaded again: while the refcount was read, a clean table may have left the cache.
    return tables.l2Table(offset);
  }
  const { host } = await allocator.take(1, 'L2 table');
  const content = offset === 0 ? undefined : (await tables.l2Table(offset)).bytes;
  const table = tables.newL2Table(host, content);
  table.checked = true;
  tables.setL1Entry(l1Index, host);
  if (offset !== 0) tables.dropL2Table(offset);
  return table;
}

/** What is marked COPIED must have a refcount of one, or somebody else's cluster gets written. */
async function checkRefcount(
  context: PlaceContext,
  host: HostOffset,
  claim: WriteKind,
): Promise<void> {
  const { tables, geometry } = context;
  await tables.loadRefcountTable();
  tables.structures.checkWrite(host, geometry.clusterSize, claim);
  const count = await tables.refcount(clusterIndexOf(host, geometry));
  if (count === 1) return;
  throw tables.corrupt(
    `Cluster at offset ${hex(host)} is marked as used once, but its refcount is ${count}`,
  );
}

export function entryAt(context: PlaceContext, table: Table, guest: number): L2Entry {
  const { geometry, version } = context;
  const index = l2IndexOf(guest, geometry);
  try {
    const entry = l2EntryAt(table, index, geometry, version);
    if (geometry.externalData) checkExternal(entry, alignDown(guest, geometry.clusterSize));
    return entry;
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const at = index * geometry.l2EntryBytes;
    const [high, low] = [table.view.getUint32(at), table.view.getUint32(at + 4)];
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

/** Makes the last placement longer where one of the same kind follows it on both sides. */
function append(
  placements: Placement[],
  clusterSize: number,
  guest: number,
  host: HostOffset,
  clusters: number,
  kind: PlacementKind,
  { from, to }: Part,
): void {
  const last = placements.at(-1);
  const length = (last?.clusters ?? 0) * clusterSize;
  if (
    last?.state === kind.state &&
    last.taken === kind.taken &&
    last.zeroed === kind.zeroed &&
    last.guest + length === guest &&
    last.host + length === host
  ) {
    last.clusters += clusters;
    last.to = to;
  } else placements.push({ guest, host, clusters, ...kind, from, to });
}
