// Room for new structures while refcounts can't be believed: clusters that no table points to, of
// the state that there is, so that nothing of it is overwritten before the switch to another one.

import { ImageError } from '../errors.ts';
import { divideUp } from '../units.ts';
import { type Geometry, refcountTableIndexOf } from './geometry.ts';
import { ReferenceCounts, rangesOf } from './reference-counts.ts';
import { addReferences } from './references.ts';
import { QUIET, type RepairState } from './repair-state.ts';
import { MAX_HOST_OFFSET } from './spec.ts';

/** Clusters past the end of the file that are looked at, for something that points there. */
const WINDOW = 2 ** 23;
/** Free runs that are kept; more of them stay unused. */
const MAX_RUNS = 2 ** 18;

export class FreeSpace {
  readonly #geometry: Geometry;
  readonly #filename: string;
  /** Where a storage ends that can't grow, in clusters. */
  readonly #limit: number;
  /** Runs of free clusters inside the file: what is left of them. */
  readonly #starts: number[] = [];
  readonly #lengths: number[] = [];
  /** All runs before this one are used up. */
  #cursor = 0;
  /** From this cluster on everything is free, but for what dangles. */
  #end = 0;
  /** Where the file ends, rounded down, in clusters. */
  readonly #fileEnd: number;
  /** A bit for each cluster from there on that something points to. */
  readonly #dangling = new Uint8Array(WINDOW / 8);
  /** Indexes of refcount blocks that cover a cluster in use. */
  readonly blocks = new Set<number>();

  private constructor({ storage, geometry }: RepairState) {
    this.#geometry = geometry;
    this.#filename = storage.filename;
    const most = storage.resizable ? MAX_HOST_OFFSET : storage.size;
    this.#limit = Math.floor(most / geometry.clusterSize);
    this.#fileEnd = Math.floor(storage.size / geometry.clusterSize);
  }

  /**
   * Walks all tables. Throws where they make no sense at all. `dropped`: the offset of a structure
   * of which nobody will miss what lies past the end.
   */
  static async survey(state: RepairState, dropped?: number): Promise<FreeSpace> {
    const space = new FreeSpace(state);
    for (const range of rangesOf(state)) {
      const counts = new ReferenceCounts(state.geometry, state.storage.size, range);
      await addReferences(state, counts, {
        ...QUIET,
        pastEnd: (offset, length) => {
          const inside = offset === dropped ? Math.max(0, state.storage.size - dropped) : length;
          space.#pastEnd(state, counts, Number(offset), inside);
        },
      });
      space.#look(counts);
      counts.release();
    }
    return space;
  }

  /** What reaches past the end keeps what it has inside, and gets nothing put under it. */
  #pastEnd(state: RepairState, counts: ReferenceCounts, offset: number, length: number): void {
    const { size } = state.storage;
    const { clusterSize } = this.#geometry;
    if (offset < size) counts.add(offset, size - offset, 1);
    const first = Math.max(Math.floor(offset / clusterSize) - this.#fileEnd, 0);
    const last = Math.floor((offset + length - 1) / clusterSize) - this.#fileEnd;
    for (let bit = first; bit <= last && bit < WINDOW; bit++) {
      this.#dangling[bit >>> 3] = (this.#dangling[bit >>> 3] ?? 0) | (1 << (bit & 7));
    }
  }

  #dangles(cluster: number): boolean {
    const bit = cluster - this.#fileEnd;
    return bit >= 0 && ((this.#dangling[bit >>> 3] ?? 0) & (1 << (bit & 7))) !== 0;
  }

  #look({ first, counts }: ReferenceCounts): void {
    for (let i = 0; i < counts.length; i++) {
      if (counts[i] === 0) continue;
      const cluster = first + i;
      if (cluster > this.#end && this.#starts.length < MAX_RUNS) {
        this.#starts.push(this.#end);
        this.#lengths.push(cluster - this.#end);
      }
      this.#end = cluster + 1;
      this.blocks.add(refcountTableIndexOf(cluster, this.#geometry));
    }
  }

  /** The offset of so many clusters in one piece: the first that fit. Their blocks are noted. */
  take(count: number): number {
    const first = this.#takeInside(count) ?? this.#takeBehind(count);
    this.#noteBlocks(first, first + count);
    return first * this.#geometry.clusterSize;
  }

  #noteBlocks(first: number, end: number): void {
    for (let cluster = first; cluster < end; cluster++) {
      this.blocks.add(refcountTableIndexOf(cluster, this.#geometry));
    }
  }

  #takeInside(count: number): number | undefined {
    for (let i = this.#cursor; i < this.#starts.length; i++) {
      const [start = 0, length = 0] = [this.#starts[i], this.#lengths[i]];
      if (length < count) continue;
      this.#starts[i] = start + count;
      this.#lengths[i] = length - count;
      while (this.#lengths[this.#cursor] === 0) this.#cursor++;
      return start;
    }
    return undefined;
  }

  #takeBehind(count: number): number {
    let first = this.#end;
    for (let cluster = first; cluster < first + count; cluster++) {
      // In use, once the file has grown past it.
      if (this.#dangles(cluster)) {
        this.#noteBlocks(cluster, cluster + 1);
        first = cluster + 1;
      }
    }
    this.#end = first + count;
    if (this.#end <= Math.min(this.#limit, this.#fileEnd + WINDOW)) return first;
    throw new ImageError(
      'no-space',
      `${this.#filename}: no cluster is free for what has to be written anew`,
      { errno: 'ENOSPC' },
    );
  }

  /** Bytes that the file has to have. */
  get fileSize(): number {
    return this.#end * this.#geometry.clusterSize;
  }
}

/** Clusters that a table of so many bytes takes. */
export function clustersFor(bytes: number, { clusterSize }: Geometry): number {
  return divideUp(bytes, clusterSize);
}
