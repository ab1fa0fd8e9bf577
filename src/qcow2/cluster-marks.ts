// Marks on single clusters of a file, by cluster index: what lies there, as a few bits. One look-up
// takes the same time however many there are (open addressing, at most half full).

import { assert } from '../errors.ts';

/** Slots at first. */
const FEWEST = 64;
/** Fibonacci hashing: neighbours, as tables often are, end up apart. */
const SPREAD = 0x9e37_79b1;
const EMPTY = -1;

export class ClusterMarks {
  #clusters = new Float64Array(FEWEST).fill(EMPTY);
  #bits = new Uint8Array(FEWEST);
  /** Slots in use; a cluster without marks keeps its slot until the table grows. */
  #used = 0;
  /** Marks that were set more than once, as a damaged image may have it: how often beyond that. */
  readonly #again = new Map<string, number>();

  /** `mark`: one bit, 1 to 128. */
  add(cluster: number, mark: number): void {
    const slot = this.#slotOf(cluster);
    if (this.#clusters[slot] === EMPTY) {
      this.#clusters[slot] = cluster;
      this.#used++;
    } else if (this.at(cluster) & mark) this.#count(cluster, mark, 1);
    this.#bits[slot] = (this.#bits[slot] ?? 0) | mark;
    if (this.#used * 2 > this.#clusters.length) this.#grow();
  }

  /** Takes a mark back that was set once more than it was taken back. */
  drop(cluster: number, mark: number): void {
    if (this.#again.has(`${cluster} ${mark}`)) {
      this.#count(cluster, mark, -1);
      return;
    }
    const slot = this.#slotOf(cluster);
    this.#bits[slot] = (this.#bits[slot] ?? 0) & ~mark;
  }

  /** Takes a mark back everywhere. */
  dropAll(mark: number): void {
    for (const [slot, bits] of this.#bits.entries()) this.#bits[slot] = bits & ~mark;
    for (const key of this.#again.keys()) if (key.endsWith(` ${mark}`)) this.#again.delete(key);
  }

  /** The marks of a cluster; 0 if none. */
  at(cluster: number): number {
    return this.#bits[this.#slotOf(cluster)] ?? 0;
  }

  /** Its slot, or the empty one where it would go. */
  #slotOf(cluster: number): number {
    const mask = this.#clusters.length - 1;
    const high = Math.floor(cluster / 2 ** 32);
    const hash = Math.imul(cluster ^ Math.imul(high, 31), SPREAD);
    let slot = (hash ^ (hash >>> 15)) & mask;
    while (this.#clusters[slot] !== EMPTY && this.#clusters[slot] !== cluster) {
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  #grow(): void {
    const [clusters, bits] = [this.#clusters, this.#bits];
    const marked = bits.reduce((count, each) => count + (each === 0 ? 0 : 1), 0);
    const slots = Math.max(FEWEST, 2 ** Math.ceil(Math.log2((marked + 1) * 3)));
    this.#clusters = new Float64Array(slots).fill(EMPTY);
    this.#bits = new Uint8Array(slots);
    this.#used = 0;
    for (const [old, cluster] of clusters.entries()) {
      const marks = bits[old] ?? 0;
      if (marks === 0) continue;
      const slot = this.#slotOf(cluster);
      this.#clusters[slot] = cluster;
      this.#bits[slot] = marks;
      this.#used++;
    }
  }

  #count(cluster: number, mark: number, by: number): void {
    const key = `${cluster} ${mark}`;
    const count = (this.#again.get(key) ?? 0) + by;
    assert(count >= 0, 'a mark taken back too often');
    if (count === 0) this.#again.delete(key);
    else this.#again.set(key, count);
  }
}
