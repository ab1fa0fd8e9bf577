// How many clusters storing bitmaps takes, at most, after a series of writes.

import { divideUp } from '../units.ts';
import { bitmapEntryBytes, bitmapTableEntries } from './bitmap-directory.ts';

/** One bitmap as a series of writes finds it. */
export interface GrowingBitmap {
  readonly nameBytes: Uint8Array;
  readonly granularity: number;
  /** What is written becomes dirty in it. */
  readonly records: boolean;
  /** All of it may be written anew, whatever the writes are. */
  readonly rewritten: boolean;
}

interface Counted extends GrowingBitmap {
  readonly entries: number;
  readonly tableClusters: number;
  /** Clusters of bits that get a new version. */
  changed: number;
  /** Entries before this one were looked at. */
  countedTo: number;
}

export class BitmapGrowth {
  readonly #bitmaps: readonly Counted[];
  readonly #clusterSize: number;
  #any = false;

  /** `grows`: the disk gets a new size, `size`, so that every bitmap gets a new version. */
  constructor(
    bitmaps: readonly GrowingBitmap[],
    size: number,
    clusterSize: number,
    grows: boolean,
  ) {
    this.#clusterSize = clusterSize;
    this.#any = bitmaps.length > 0 && (grows || bitmaps.some(({ rewritten }) => rewritten));
    this.#bitmaps = bitmaps.map((bitmap) => {
      const entries = bitmapTableEntries(size, bitmap.granularity, clusterSize);
      // Growing writes the last cluster of bits anew.
      const changed = bitmap.rewritten ? entries : grows ? 1 : 0;
      const tableClusters = divideUp(entries * 8, clusterSize);
      return { ...bitmap, entries, tableClusters, changed, countedTo: 0 };
    });
  }

  /** A stretch is written; stretches come in ascending order. */
  add(offset: number, length: number): void {
    for (const bitmap of this.#bitmaps) {
      if (!bitmap.records || bitmap.rewritten) continue;
      this.#any = true;
      const covered = this.#clusterSize * 8 * bitmap.granularity;
      const end = Math.min(bitmap.entries, divideUp(offset + length, covered));
      const first = Math.max(bitmap.countedTo, Math.floor(offset / covered));
      if (end <= first) continue;
      bitmap.changed += end - first;
      bitmap.countedTo = end;
    }
  }

  /** Clusters that can lie anywhere. */
  get clusters(): number {
    return this.#any ? this.#bitmaps.reduce((sum, { changed }) => sum + changed, 0) : 0;
  }

  /** What has to lie in one piece, in clusters each: tables and the directory. */
  get pieces(): readonly number[] {
    if (!this.#any) return [];
    const bytes = this.#bitmaps.reduce((sum, each) => sum + bitmapEntryBytes(each.nameBytes), 0);
    const tables = this.#bitmaps.map(({ tableClusters }) => tableClusters);
    return [...tables, divideUp(bytes, this.#clusterSize)];
  }
}
