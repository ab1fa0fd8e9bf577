// How often offsets were met: millions of them in twelve bytes each, where a Map takes many times as
// much. Open addressing; offsets are safe integers. Where one goes differs from table to table, so that
// no image can have all of them meet at one place.

const FIRST_CAPACITY = 256;
/** Marks a slot that is not taken: no offset. */
const EMPTY = -1;

export class OffsetCounts {
  #keys = new Float64Array(FIRST_CAPACITY).fill(EMPTY);
  #counts = new Uint32Array(FIRST_CAPACITY);
  #size = 0;
  /** 32 minus the bits of a slot's index. */
  #shift = Math.clz32(FIRST_CAPACITY) + 1;
  readonly #low = randomOdd();
  readonly #high = randomOdd();

  get(offset: number): number {
    return this.#counts[this.#slot(offset)] ?? 0;
  }

  /** Counts one more, or `more`; returns how many there are now. */
  add(offset: number, more = 1): number {
    let slot = this.#slot(offset);
    if (this.#keys[slot] === EMPTY) {
      if (++this.#size > this.#keys.length * 0.75) {
        this.#grow();
        slot = this.#slot(offset);
      }
      this.#keys[slot] = offset;
    }
    const count = (this.#counts[slot] ?? 0) + more;
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
    const low = Math.imul((offset / 512) >>> 0, this.#low);
    const high = Math.imul((offset / 2 ** 41) >>> 0, this.#high);
    let slot = (low + high) >>> this.#shift;
    while (this.#keys[slot] !== EMPTY && this.#keys[slot] !== offset) slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const [keys, counts] = [this.#keys, this.#counts];
    this.#keys = new Float64Array(keys.length * 2).fill(EMPTY);
    this.#counts = new Uint32Array(keys.length * 2);
    this.#shift--;
    keys.forEach((offset, i) => {
      if (offset === EMPTY) return;
      const slot = this.#slot(offset);
      this.#keys[slot] = offset;
      this.#counts[slot] = counts[i] ?? 0;
    });
  }
}

function randomOdd(): number {
  return Math.floor(Math.random() * 2 ** 32) | 1;
}
