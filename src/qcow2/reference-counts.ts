// Counters of references, one per host cluster, for a range of the clusters of a file.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { divideUp } from '../units.ts';
import type { Geometry } from './geometry.ts';

/** Cluster indexes `first .. first + count`. */
export interface ClusterRange {
  readonly first: number;
  readonly count: number;
}

/** Counters as wide as the image's refcounts; nobody counts up to 2^32. */
function bytesPerCount(refcountBits: number): 1 | 2 | 4 {
  return refcountBits <= 8 ? 1 : refcountBits === 16 ? 2 : 4;
}

/** How many clusters fit into one range so that the counters stay in bounds. */
export function clustersPerRange(geometry: Geometry, bytes: number): number {
  return Math.floor(bytes / bytesPerCount(geometry.refcountBits));
}

/** Bound for the counters in memory while an image is written to, in bytes. */
const COUNTER_BYTES = 64 * 1024 * 1024;
/** Clusters of a file: what QEMU takes for a check. */
const MAX_CLUSTERS = 2 ** 31 - 1;

interface SizedImage {
  readonly storage: Storage;
  readonly geometry: Geometry;
}

/** Clusters of the file. Throws `unsupported` for more than can be checked. */
export function checkClusterCount({ storage, geometry }: SizedImage): number {
  const clusters = divideUp(storage.size, geometry.clusterSize);
  if (clusters <= MAX_CLUSTERS) return clusters;
  throw new ImageError('unsupported', `${storage.filename} has too many clusters`, {
    errno: 'EFBIG',
  });
}

/** The ranges that the clusters of a file are counted in; each is a whole number of blocks. */
export function rangesOf({ storage, geometry }: SizedImage): ClusterRange[] {
  // One more: something may reach into the rest of the last one.
  const clusters = checkClusterCount({ storage, geometry }) + 1;
  const count = clustersPerRange(geometry, COUNTER_BYTES);
  const ranges: ClusterRange[] = [];
  for (let first = 0; first < clusters; first += count) ranges.push({ first, count });
  return ranges;
}

/** What was released last. Where memory is short, collecting it would come too late. */
let spare: WeakRef<ArrayBuffer> | undefined;

function zeroed(bytes: number): ArrayBuffer {
  const buffer = spare?.deref();
  if (buffer === undefined || buffer.byteLength < bytes) return new ArrayBuffer(bytes);
  spare = undefined;
  new Uint8Array(buffer).fill(0);
  return buffer;
}

export class ReferenceCounts {
  readonly first: number;
  readonly #clusterSize: number;
  readonly #fileSize: number;
  readonly #max: number;
  #all: Uint8Array | Uint16Array | Uint32Array;
  /** Clusters of the file, and one more once something reaches into the rest of the last one. */
  #end: number;

  constructor(geometry: Geometry, fileSize: number, range: ClusterRange) {
    this.first = range.first;
    this.#clusterSize = geometry.clusterSize;
    this.#fileSize = fileSize;
    this.#max = Math.min(geometry.maxRefcount, 0xffff_ffff);
    this.#end = divideUp(fileSize, geometry.clusterSize);
    const length = Math.min(range.count, this.#end + 1 - range.first);
    const width = bytesPerCount(geometry.refcountBits);
    const CountArray = width === 1 ? Uint8Array : width === 2 ? Uint16Array : Uint32Array;
    this.#all = new CountArray(zeroed(length * width), 0, length);
  }

  /** Nobody looks at it any more: its memory may be used for the next one. */
  release(): void {
    spare = new WeakRef(this.#all.buffer as ArrayBuffer);
    this.#all = this.#all.subarray(0, 0);
  }

  /** Index after the last cluster of the file, as far as it is known. */
  get end(): number {
    return this.#end;
  }

  /** The counters of the clusters from `first` on. */
  get counts(): Uint8Array | Uint16Array | Uint32Array {
    return this.#all.subarray(0, Math.max(0, this.#end - this.first));
  }

  get(cluster: number): number {
    return this.#all[cluster - this.first] ?? 0;
  }

  /** True where a cluster in `from .. to` has a reference. */
  anyIn(from: number, to: number): boolean {
    for (let index = from - this.first; index < to - this.first; index++) {
      if (this.#all[index] !== 0) return true;
    }
    return false;
  }

  /** Adds one reference to a cluster; false where it is not that simple and `add` has to. */
  addOne(cluster: number): boolean {
    const index = cluster - this.first;
    const count = this.#all[index];
    if (count === undefined || cluster >= this.#end || count >= this.#max) return false;
    this.#all[index] = count + 1;
    return true;
  }

  /**
   * Adds references to each cluster of a byte range. `overflow` hears how many could not be added.
   * Adds nothing and returns false where the range ends past the file by a cluster or more: the
   * last cluster may be there in part.
   */
  add(
    offset: number,
    length: number,
    times: number,
    overflow?: (cluster: number, times: number) => void,
  ): boolean {
    if (length === 0) return true;
    if (offset + length - this.#fileSize >= this.#clusterSize) return false;
    const last = Math.floor((offset + length - 1) / this.#clusterSize);
    this.#end = Math.max(this.#end, last + 1);
    const stop = Math.min(last, this.first + this.#all.length - 1);
    let cluster = Math.max(Math.floor(offset / this.#clusterSize), this.first);
    for (; cluster <= stop; cluster++) {
      const wanted = this.get(cluster) + times;
      this.#all[cluster - this.first] = Math.min(wanted, this.#max);
      if (wanted > this.#max) overflow?.(cluster, wanted - this.#max);
    }
    return true;
  }
}
