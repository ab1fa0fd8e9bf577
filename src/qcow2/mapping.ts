// Reads the guest's map: which range of the virtual disk lies where. Changes nothing.

import { ImageError } from '../errors.ts';
import type { Extent } from '../layer.ts';
import { alignDown } from '../units.ts';
import { hex } from './corruption.ts';
import type { DataStore } from './data-store.ts';
import type { Geometry } from './geometry.ts';
import { l1IndexOf, l2IndexOf } from './geometry.ts';
import { checkExternal, decodeL2Entry, misplaced } from './l2-entry.ts';
import { ZERO_LOW } from './spec.ts';
import type { Table } from './table-cache.ts';
import type { Tables } from './tables.ts';

/** Neighbouring guest clusters of one kind; `data` and preallocated zeros also lie together. */
export interface MapRun {
  readonly kind: 'unallocated' | 'zero' | 'data' | 'compressed';
  readonly offset: number;
  length: number;
  /**
   * Data and preallocated zeros: where `offset` lies. Compressed: the first compressed byte. Else 0,
   * where the header is.
   */
  readonly host: number;
  /** Compressed: bytes to the end of the last sector; such runs are one cluster. */
  readonly compressedBytes: number;
}

/** One answer covers at most so many runs or tables; the caller asks on. Keeps memory bounded. */
const MAX_RUNS = 8192;
const MAX_TABLES = 64;

export interface MapContext {
  readonly filename: string;
  readonly geometry: Geometry;
  readonly version: number;
  readonly tables: Tables;
  readonly data: DataStore;
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
  let position = offset;
  for (let loaded = 0; position < end && runs.length < MAX_RUNS && loaded < MAX_TABLES; ) {
    const l1Index = l1IndexOf(position, geometry);
    const l1End = Math.min(tables.l1Entries, l1IndexOf(end - 1, geometry) + 1);
    const next = tables.nextL2(l1Index, Math.max(l1Index, l1End));
    const tableStart = next >= l1End ? end : next * geometry.l2Coverage;
    if (tableStart > position) {
      const stop = Math.min(tableStart, end);
      append(runs, 'unallocated', position, stop - position, 0);
      position = stop;
      continue;
    }
    const table = await tables.l2Table(tables.l1Entry(next).offset);
    loaded++;
    const stop = Math.min(end, (next + 1) * geometry.l2Coverage);
    scanTable(context, table, position, stop, runs);
    position = stop;
  }
  return runs;
}

/** What others may know of a run. */
export function extentOf({ kind, offset, length, host }: MapRun, data: DataStore): Extent {
  const { storage } = data;
  if (kind === 'unallocated') return { kind, offset, length };
  if (kind === 'zero') {
    return {
      kind,
      offset,
      length,
      ...(host !== 0 && !data.opaque && { host: { storage, offset: host } }),
    };
  }
  const isPlain = kind === 'data' && !data.opaque;
  return { kind: 'data', offset, length, host: isPlain ? { storage, offset: host } : null };
}

function scanTable(
  context: MapContext,
  table: Table,
  from: number,
  to: number,
  runs: MapRun[],
): void {
  const { geometry, tables } = context;
  const { clusterSize } = geometry;
  const { view } = table;
  for (let position = from; position < to; ) {
    const at = l2IndexOf(position, geometry) * 8;
    const within = position % clusterSize;
    const length = Math.min(clusterSize - within, to - position);
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    if (high === 0 && low === 0) append(runs, 'unallocated', position, length, 0);
    else {
      const entry = decodeAt(context, table, at, position);
      if (entry.kind === 'compressed') {
        runs.push({
          kind: 'compressed',
          offset: position,
          length,
          host: entry.host,
          compressedBytes: entry.lengthBytes,
        });
      } else if (entry.kind === 'data') {
        if (!geometry.externalData) tables.checkInFile('a data cluster', entry.host);
        append(runs, 'data', position, length, entry.host + within);
      } else {
        const host = entry.kind === 'zero' ? entry.host : null;
        append(runs, entry.kind, position, length, host === null ? 0 : host + within);
      }
    }
    position += length;
  }
}

function decodeAt(
  context: MapContext,
  table: Table,
  at: number,
  position: number,
): ReturnType<typeof decodeL2Entry> {
  const { geometry, version, tables } = context;
  const high = table.view.getUint32(at);
  const low = table.view.getUint32(at + 4);
  try {
    const entry = decodeL2Entry(high, low, geometry, version);
    const { externalData, clusterSize } = geometry;
    if (externalData) checkExternal(entry, alignDown(position, clusterSize));
    return entry;
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const { host, unaligned } = misplaced(high, low, geometry.clusterSize);
    const index = hex(at / geometry.l2EntryBytes);
    const place = `(L2 offset: ${hex(table.offset)}, L2 index: ${index})`;
    if (unaligned)
      throw tables.corrupt(`Cluster allocation offset ${hex(host)} unaligned ${place}`);
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
  if (last?.kind === kind && (host === 0 ? last.host === 0 : last.host + last.length === host)) {
    last.length += length;
  } else runs.push({ kind, offset, length, host, compressedBytes: 0 });
}
