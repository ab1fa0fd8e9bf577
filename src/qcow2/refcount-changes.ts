// How the refcounts change when the map of one L1 table comes to be used once more, or that of
// another is let go of: counted for a range of clusters, so that memory stays bounded.

import { ImageError } from '../errors.ts';
import { getRefcount, setRefcount } from './refcount.ts';
import { type ClusterRange, ReferenceCounts } from './reference-counts.ts';
import { MapWalk, type ReferenceVisitor } from './reference-walk.ts';
import type { ReferencedImage } from './references.ts';

/** An L1 table in the file. */
export interface L1Place {
  readonly offset: number;
  /** Entries. */
  readonly size: number;
}

export interface MapChange {
  /** What this table leads to gets one reference more; the table itself does not. */
  readonly gains: L1Place | null;
  /** This table and all that it leads to lose one. */
  readonly drops: L1Place | null;
}

export class RefcountChanges {
  readonly range: ClusterRange;
  readonly #image: ReferencedImage;
  readonly #gains: ReferenceCounts;
  readonly #drops: ReferenceCounts;

  private constructor(image: ReferencedImage, range: ClusterRange) {
    const { geometry, storage } = image;
    this.#image = image;
    this.range = range;
    this.#gains = new ReferenceCounts(geometry, storage.size, range);
    this.#drops = new ReferenceCounts(geometry, storage.size, range);
  }

  /** Reads the file: what was written before has to be there. Throws where tables make no sense. */
  static async count(
    image: ReferencedImage,
    { gains, drops }: MapChange,
    range: ClusterRange,
  ): Promise<RefcountChanges> {
    const changes = new RefcountChanges(image, range);
    if (gains !== null) {
      await changes.#walk(changes.#gains, gains, () => changes.#overflow());
      // The walk counts the table too.
      changes.#drops.add(gains.offset, gains.size * 8, 1);
    }
    if (drops !== null) {
      await changes.#walk(changes.#drops, drops, () =>
        changes.#corrupt('a cluster is used more often than its refcount can say'),
      );
    }
    return changes;
  }

  async #walk(counts: ReferenceCounts, l1: L1Place, overflow: () => never): Promise<void> {
    const visitor: ReferenceVisitor = {
      overflow,
      broken: (message) => this.#corrupt(message),
      pastEnd: (offset) =>
        this.#corrupt(`something at offset 0x${offset.toString(16)} is past the end`),
    };
    const walk = new MapWalk(this.#image, counts, visitor);
    await walk.l1(l1.offset, l1.size, false);
    await walk.finish();
  }

  #corrupt(what: string): never {
    throw new ImageError('corrupt', `${this.#image.storage.filename}: ${what}`, {
      errno: 'EIO',
      hint: `Run 'qimg-ts check -r all' first.`,
    });
  }

  #overflow(): never {
    const { geometry, storage } = this.#image;
    throw new ImageError(
      'unsupported',
      `${storage.filename}: a cluster would be used more often than a refcount of ` +
        `${geometry.refcountBits} bits can say`,
      { errno: 'EINVAL', hint: 'Delete a snapshot, or make an image with wider refcounts.' },
    );
  }

  /** References that a cluster of the range loses. */
  drops(cluster: number): number {
    return this.#drops.get(cluster);
  }

  /** Whether any cluster that the refcount block covers changes; its counts are tried, too. */
  changesBlock(blockIndex: number, block: Uint8Array | null): boolean {
    let changes = false;
    this.#each(blockIndex, (within, cluster, change) => {
      this.#changed(block, within, cluster, change);
      changes = true;
    });
    return changes;
  }

  /** Changes the counts in a block. `freed` hears of clusters that nobody uses any more. */
  apply(blockIndex: number, block: Uint8Array, freed: (cluster: number) => void): void {
    this.#each(blockIndex, (within, cluster, change) => {
      const count = this.#changed(block, within, cluster, change);
      setRefcount(block, within, this.#image.geometry.refcountOrder, count);
      if (count === 0) freed(cluster);
    });
  }

  #each(blockIndex: number, hear: (within: number, cluster: number, change: number) => void): void {
    const { refcountBlockEntries } = this.#image.geometry;
    const first = blockIndex * refcountBlockEntries;
    for (let within = 0; within < refcountBlockEntries; within++) {
      const change = this.#gains.get(first + within) - this.#drops.get(first + within);
      if (change !== 0) hear(within, first + within, change);
    }
  }

  #changed(block: Uint8Array | null, within: number, cluster: number, change: number): number {
    const { geometry } = this.#image;
    const old = block === null ? 0 : getRefcount(block, within, geometry.refcountOrder);
    const place = (cluster * geometry.clusterSize).toString(16);
    if (old === 0) this.#corrupt(`a cluster in use at offset 0x${place} has refcount 0`);
    const count = old + change;
    if (count < 0) this.#corrupt(`the refcount of the cluster at offset 0x${place} is too low`);
    if (count > geometry.maxRefcount) this.#overflow();
    return count;
  }
}
