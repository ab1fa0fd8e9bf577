// What must not be written as if it were data, whatever refcounts and table entries of a damaged
// image say.

import { ImageError } from '../errors.ts';
import { ClusterSet } from './cluster-set.ts';
import type { Geometry } from './geometry.ts';
import { clusterOffset } from './l2-entry.ts';

/** What a stretch of the file is taken for by whoever wants to write there. */
export type Claim = 'free' | 'data' | 'l2';

const WORDS = {
  free: 'the refcounts call',
  data: 'the map says that data lies in',
  l2: 'the map says that an L2 table lies in',
} as const;

interface Place {
  readonly what: string;
  readonly offset: number;
  readonly length: number;
}

/** The structures of an image by their places in the file; kept up to date by tables.ts. */
export class Structures {
  readonly #filename: string;
  readonly #clusterSize: number;
  readonly #l2: ClusterSet;
  readonly #refcountBlocks: ClusterSet;
  readonly #fixed: () => readonly Place[];

  /** `fixed`: what lies in one piece, asked each time, as it moves. */
  constructor(
    filename: string,
    geometry: Geometry,
    entries: { readonly l1: DataView; readonly refcountTable: DataView },
    fixed: () => readonly Place[],
  ) {
    this.#filename = filename;
    this.#clusterSize = geometry.clusterSize;
    this.#l2 = new ClusterSet(clustersIn(entries.l1, geometry));
    this.#refcountBlocks = new ClusterSet(clustersIn(entries.refcountTable, geometry));
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

  /** Throws `corrupt` where clusters from `start` on hold a structure. */
  check(start: number, clusters: number, claim: Claim): void {
    const what = this.#at(start, clusters, claim);
    if (what === undefined) return;
    const tail = claim === 'free' ? ` ${what} free` : ` ${what} (offset 0x${start.toString(16)})`;
    throw new ImageError('corrupt', `${this.#filename}: ${WORDS[claim]}${tail}`, {
      hint: `Run 'qemu-img check -r all' on a copy of the image first.`,
    });
  }

  #at(start: number, clusters: number, claim: Claim): string | undefined {
    const end = start + clusters * this.#clusterSize;
    const fixed = this.#fixed().find(
      ({ offset, length }) => offset < end && start < offset + length,
    );
    if (fixed !== undefined) return fixed.what;
    const first = start / this.#clusterSize;
    for (let cluster = first; cluster < first + clusters; cluster++) {
      if (this.#refcountBlocks.has(cluster)) return 'a refcount block';
      if (claim !== 'l2' && this.#l2.has(cluster)) return 'an L2 table';
    }
    return undefined;
  }
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
