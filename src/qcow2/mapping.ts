// Reads the guest's map: which range of the virtual disk lies where. Changes nothing.

import { ImageError } from '../errors.ts';
import type { Extent } from '../layer.ts';
import { alignDown, KIB } from '../units.ts';
import { hex } from './corruption.ts';
import type { DataStore } from './data-store.ts';
import type { Geometry } from './geometry.ts';
import { l1IndexOf, l2IndexOf } from './geometry.ts';
import { unguarded } from './guarded-storage.ts';
import type { Holes } from './holes.ts';
import { checkExternal, type L2Entry, misplaced } from './l2-entry.ts';
import { l2EntryAt } from './l2-table.ts';
import { ZERO_LOW } from './spec.ts';
import { alikeFrom, allocatedAt, zeroedAt } from './subclusters.ts';
import type { ScannedTable } from './table-window.ts';
import type { Tables } from './tables.ts';

/** Neighbouring guest bytes of one kind; those with a place in the file also lie together. */
export interface MapRun {
  readonly kind: 'unallocated' | 'zero' | 'data' | 'compressed';
  readonly offset: number;
  length: number;
  /**
   * Data, preallocated zeros, and subclusters that a cluster has room for without holding them:
   * where `offset` lies. Compressed: the first compressed byte. Else NOWHERE.
   */
  readonly host: number;
  /** Compressed: bytes to the end of the last sector; such runs are one cluster. */
  readonly compressedBytes: number;
}

/** Not 0, where an external data file has the first cluster. */
const NOWHERE = -1;

/**
 * One answer covers at most so many runs, and tables or bytes of tables, what is more; the caller
 * asks on. Keeps memory bounded.
 */
const MAX_RUNS = 256;
const MAX_TABLES = 64;
const MAX_TABLE_BYTES = 512 * KIB;

export interface MapContext {
  readonly filename: string;
  readonly geometry: Geometry;
  readonly version: number;
  readonly tables: Tables;
  readonly data: DataStore;
  /** Of the image's file. */
  readonly holes: Holes;
  /** Clusters behind the end of the file are told like others, not refused. */
  readonly lenient?: boolean;
}

/** The map from `offset` (any byte) on, gapless, at least one run, up to `offset + length`. */
export async function mapRuns(
  context: MapContext,
  offset: number,
  length: number,
): Promise<MapRun[]> {
  const { geometry, tables } = context;
  const end = offset + length;
  const runs: MapRun[] = [];
  const mostTables = Math.max(MAX_TABLES, MAX_TABLE_BYTES / geometry.clusterSize);
  let position = offset;
  for (let loaded = 0; position < end && runs.length < MAX_RUNS && loaded < mostTables; ) {
    const l1Index = l1IndexOf(position, geometry);
    const l1End = Math.min(tables.l1Entries, l1IndexOf(end - 1, geometry) + 1);
    const next = tables.nextL2(l1Index, Math.max(l1Index, l1End));
    const tableStart = next >= l1End ? end : next * geometry.l2Coverage;
    if (tableStart > position) {
      const stop = Math.min(tableStart, end);
      append(runs, 'unallocated', position, stop - position, NOWHERE);
      position = stop;
      continue;
    }
    const { offset: l2 } = tables.l1Entry(next);
    const stop = Math.min(end, (next + 1) * geometry.l2Coverage);
    const ahead = tables.l2Scans.ahead(l2);
    if (ahead !== undefined) {
      loaded++;
      position = scanInto(context, ahead, position, stop, runs);
      continue;
    }
    const isHole = context.holes.hides(l2, geometry.clusterSize);
    if (isHole === true || (isHole !== false && (await isHole))) {
      append(runs, 'unallocated', position, stop - position, NOWHERE);
      position = stop;
      continue;
    }
    loaded++;
    const [from, isWhole] = [position, position === tableStart && stop < end];
    const look = (table: ScannedTable) => scanInto(context, table, from, stop, runs);
    position = isWhole ? await tables.l2Scans.scan(l2, 'l2', look) : look(await tables.l2Table(l2));
  }
  return runs;
}

/** What others may know of a run. */
export function extentOf({ kind, offset, length, host }: MapRun, data: DataStore): Extent {
  // To be read, by the kernel too.
  const storage = unguarded(data.storage);
  if (kind === 'unallocated' || kind === 'zero') {
    return {
      kind,
      offset,
      length,
      ...(host !== NOWHERE && !data.opaque && { host: { storage, offset: host } }),
    };
  }
  const isPlain = kind === 'data' && !data.opaque;
  return { kind: 'data', offset, length, host: isPlain ? { storage, offset: host } : null };
}

/** Returns where it stopped. */
function scanInto(
  context: MapContext,
  table: ScannedTable,
  from: number,
  to: number,
  runs: MapRun[],
): number {
  if (context.geometry.extendedL2) return scanExtended(context, table, from, to, runs);
  scanTable(context, table, from, to, runs);
  return to;
}

function scanTable(
  context: MapContext,
  table: ScannedTable,
  from: number,
  to: number,
  runs: MapRun[],
): void {
  const { geometry, tables } = context;
  const { clusterSize } = geometry;
  for (let position = from; position < to; ) {
    const index = l2IndexOf(position, geometry);
    const within = position % clusterSize;
    const last = index + Math.ceil((within + (to - position)) / clusterSize);
    const empty = emptyFrom(table.view, index, last);
    const length = Math.min(Math.max(1, empty) * clusterSize - within, to - position);
    if (empty > 0) append(runs, 'unallocated', position, length, NOWHERE);
    else {
      const entry = decodeAt(context, table, index, position);
      if (entry.kind === 'compressed') runs.push(compressedRun(entry, position, length));
      else if (entry.kind === 'data') {
        if (!geometry.externalData && !context.lenient) {
          tables.checkInFile('a data cluster', entry.host);
        }
        append(runs, 'data', position, length, entry.host + within);
      } else {
        const host = entry.kind === 'zero' ? entry.host : null;
        append(runs, entry.kind, position, length, host === null ? NOWHERE : host + within);
      }
    }
    position += length;
  }
}

/** How many entries from there on, before `end`, are all zeros. */
function emptyFrom(view: DataView, first: number, end: number): number {
  let at = first * 8;
  const stop = end * 8;
  while (at < stop && view.getUint32(at) === 0 && view.getUint32(at + 4) === 0) at += 8;
  return at / 8 - first;
}

/**
 * The same where clusters have subclusters, of which each can be of another kind. Returns where it
 * stopped: one table may hold millions of runs.
 */
function scanExtended(
  context: MapContext,
  table: ScannedTable,
  from: number,
  to: number,
  runs: MapRun[],
): number {
  const { geometry, tables } = context;
  const { clusterSize, l2EntryBytes } = geometry;
  let position = from;
  while (position < to && runs.length < MAX_RUNS) {
    const index = l2IndexOf(position, geometry);
    const end = Math.min(alignDown(position, clusterSize) + clusterSize, to);
    const entry = decodeAt(context, table, index, position);
    if (entry.kind === 'compressed') {
      runs.push(compressedRun(entry, position, end - position));
    } else {
      if (entry.kind === 'data' && !geometry.externalData && !context.lenient) {
        tables.checkInFile('a data cluster', entry.host);
      }
      const host = entry.kind === 'data' ? entry.host : null;
      scanSubclusters(geometry, table.view, index * l2EntryBytes, host, position, end, runs);
    }
    position = end;
  }
  return position;
}

function scanSubclusters(
  geometry: Geometry,
  view: DataView,
  entryPosition: number,
  host: number | null,
  from: number,
  to: number,
  runs: MapRun[],
): void {
  const { clusterSize, subclusterSize } = geometry;
  const allocated = allocatedAt(view, entryPosition);
  const zeroed = zeroedAt(view, entryPosition);
  const cluster = alignDown(from, clusterSize);
  for (let position = from; position < to; ) {
    const within = position - cluster;
    const index = Math.floor(within / subclusterSize);
    const next = index + alikeFrom(allocated, zeroed, index);
    const end = Math.min(to, cluster + next * subclusterSize);
    let kind: 'data' | 'zero' | 'unallocated' = 'unallocated';
    if ((allocated >>> index) & 1) kind = 'data';
    else if ((zeroed >>> index) & 1) kind = 'zero';
    append(runs, kind, position, end - position, host === null ? NOWHERE : host + within);
    position = end;
  }
}

function compressedRun(
  { host, lengthBytes }: Extract<L2Entry, { kind: 'compressed' }>,
  offset: number,
  length: number,
): MapRun {
  return { kind: 'compressed', offset, length, host, compressedBytes: lengthBytes };
}

function decodeAt(
  context: MapContext,
  table: ScannedTable,
  index: number,
  position: number,
): L2Entry {
  const { geometry, version, tables } = context;
  try {
    const entry = l2EntryAt(table, index, geometry, version);
    const { externalData, clusterSize } = geometry;
    if (externalData) checkExternal(entry, alignDown(position, clusterSize));
    return entry;
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const at = index * geometry.l2EntryBytes;
    const low = table.view.getUint32(at + 4);
    const { host, unaligned } = misplaced(table.view.getUint32(at), low, geometry.clusterSize);
    const place = `(L2 offset: ${hex(table.offset)}, L2 index: ${hex(index)})`;
    if (unaligned) {
      throw tables.corrupt(`Cluster allocation offset ${hex(host)} unaligned ${place}`);
    }
    if (version < 3 && low & ZERO_LOW) {
      throw tables.corrupt(`Zero cluster entry found in pre-v3 image ${place}`);
    }
    throw tables.corrupt(`${error.message} (guest offset: ${hex(position)})`);
  }
}

function append(
  runs: MapRun[],
  kind: 'unallocated' | 'zero' | 'data',
  offset: number,
  length: number,
  host: number,
): void {
  const last = runs.at(-1);
  const next = last === undefined || last.host === NOWHERE ? NOWHERE : last.host + last.length;
  if (last?.kind === kind && next === host) {
    last.length += length;
  } else runs.push({ kind, offset, length, host, compressedBytes: 0 });
}
