// How often offsets were met: millions of them in twelve bytes each, where a Map takes many times as
// much. Open addressing; offsets are safe integers.

const FIRST_CAPACITY = 256;
/** Marks a slot that is not taken: no offset. */
const EMPTY = -1;

export class OffsetCounts {
  #keys = new Float64Array(FIRST_CAPACITY).fill(EMPTY);
  #counts = new Uint32Array(FIRST_CAPACITY);
  #size = 0;

  get(offset: number): number {
    return this.#counts[this.#slot(offset)] ?? 0;
  }

  /** Counts one more; returns how many there are now. */
  add(offset: number): number {
    let slot = this.#slot(offset);
    if (this.#keys[slot] === EMPTY) {
      if (++this.#size > this.#keys.length * 0.75) {
        this.#grow();
        slot = this.#slot(offset);
      }
      this.#keys[slot] = offset;
    }
    const count = (this.#counts[slot] ?? 0) + 1;
    this.#counts[slot] = count;
    return count;
  }

  *[Symbol.iterator](): Generator<readonly [offset: number, count: number]> {
    const keys = this.#keys;
    for (let slot = 0; slot < keys.length; slot++) {
      const offset = keys[slot] ?? EMPTY;
      if (offset !== EMPTY) yield [offset, this.#counts[slot] ?? 0];
    }
  }

  /** Where the offset is, or would be. */
  #slot(offset: number): number {
    const mask = this.#keys.length - 1;
    const low = Math.imul((offset / 512) >>> 0, 0x9e37_79b1);
    const high = Math.imul((offset / 2 ** 41) >>> 0, 0x85eb_ca6b);
    let slot = ((low ^ high) >>> 7) & mask;
    while (this.#keys[slot] !== EMPTY && this.#keys[slot] !== offset) slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const [keys, counts] = [this.#keys, this.#counts];
    this.#keys = new Float64Array(keys.length * 2).fill(EMPTY);
    this.#counts = new Uint32Array(keys.length * 2);
    keys.forEach((offset, i) => {
      if (offset === EMPTY) return;
      const slot = this.#slot(offset);
      this.#keys[slot] = offset;
      this.#counts[slot] = counts[i] ?? 0;
    });
  }
}
