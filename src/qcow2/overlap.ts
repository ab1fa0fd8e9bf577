// What must not be written as if it were data, whatever refcounts and table entries of a damaged
// image say.

import type { Storage } from '../io/storage.ts';
import { divideUp } from '../units.ts';
import { ClusterSet } from './cluster-set.ts';
import { CorruptionError } from './corruption.ts';
import type { Geometry } from './geometry.ts';
import { clusterOffset } from './l2-entry.ts';
import type { Snapshot } from './snapshots.ts';

/** What a stretch of the file is taken for by whoever wants to write there. */
export type Claim = 'free' | 'data' | 'l2';

interface Place {
  readonly what: string;
  readonly offset: number;
  readonly length: number;
}

/** The structures of an image by their places in the file; kept up to date by tables.ts. */
export class Structures {
  readonly #storage: Storage;
  readonly #clusterSize: number;
  readonly #l2: ClusterSet;
  readonly #refcountBlocks: ClusterSet;
  readonly #inactiveL1: ClusterSet;
  readonly #fixed: () => readonly Place[];

  /** `fixed`: what lies in one piece, asked each time, as it moves. */
  constructor(
    storage: Storage,
    geometry: Geometry,
    entries: {
      readonly l1: DataView;
      readonly refcountTable: DataView;
      readonly snapshots: readonly Snapshot[];
    },
    fixed: () => readonly Place[],
  ) {
    this.#storage = storage;
    this.#clusterSize = geometry.clusterSize;
    this.#l2 = new ClusterSet(clustersIn(entries.l1, geometry));
    this.#refcountBlocks = new ClusterSet(clustersIn(entries.refcountTable, geometry));
    this.#inactiveL1 = new ClusterSet(clustersOfL1(storage, entries.snapshots, geometry));
    this.#fixed = fixed;
  }

  addL2(offset: number): void {
    this.#l2.add(offset / this.#clusterSize);
  }

  dropL2(offset: number): void {
    this.#l2.delete(offset / this.#clusterSize);
  }

  addRefcountBlock(offset: number): void {
    this.#refcountBlocks.add(offset / this.#clusterSize);
  }

  dropRefcountBlock(offset: number): void {
    this.#refcountBlocks.delete(offset / this.#clusterSize);
  }

  /** Throws `corrupt` where clusters from `start` on hold a structure. */
  check(start: number, clusters: number, claim: Claim): void {
    const what = this.#at(start, clusters, claim);
    if (what === undefined) return;
    throw new CorruptionError(
      this.#storage,
      `Preventing invalid write on metadata (overlaps with ${what})`,
    );
  }

  #at(start: number, clusters: number, claim: Claim): string | undefined {
    const end = start + clusters * this.#clusterSize;
    const fixed = this.#fixed().find(
      ({ offset, length }) => offset < end && start < offset + length,
    );
    if (fixed !== undefined) return fixed.what;
    const first = start / this.#clusterSize;
    for (let cluster = first; cluster < first + clusters; cluster++) {
      if (this.#refcountBlocks.has(cluster)) return 'refcount block';
      if (this.#inactiveL1.has(cluster)) return 'inactive L1 table';
      if (claim !== 'l2' && this.#l2.has(cluster)) return 'active L2 table';
    }
    return undefined;
  }
}

/** The clusters of the snapshots' L1 tables. */
function clustersOfL1(
  storage: Storage,
  snapshots: readonly Snapshot[],
  { clusterSize }: Geometry,
): Float64Array {
  const counts = snapshots.map(({ l1Size }) => divideUp(l1Size * 8, clusterSize));
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total > divideUp(storage.size, clusterSize)) {
    throw new CorruptionError(storage, 'The L1 tables of the snapshots have no room in the file');
  }
  const clusters = new Float64Array(total);
  let filled = 0;
  for (const [i, { l1TableOffset }] of snapshots.entries()) {
    const first = Math.floor(l1TableOffset / clusterSize);
    for (let n = 0; n < (counts[i] ?? 0); n++) clusters[filled++] = first + n;
  }
  return clusters;
}

/** Where the entries of an L1 or refcount table point; what is not aligned is found by its user. */
function clustersIn(table: DataView, { clusterSize }: Geometry): Float64Array {
  const clusters = new Float64Array(table.byteLength / 8);
  let count = 0;
  for (let at = 0; at < table.byteLength; at += 8) {
    const high = table.getUint32(at);
    const low = table.getUint32(at + 4);
    if (high === 0 && low === 0) continue;
    clusters[count++] = Math.floor(clusterOffset(high, low) / clusterSize);
  }
  return clusters.subarray(0, count);
}
