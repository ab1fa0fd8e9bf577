// How often each of very many offsets was met, in 12 bytes each: a map of the language takes ten
// times as much, and a hostile image has room for millions of offsets.

const EMPTY = -1;
const FIRST_SLOTS = 64;
/** Of all bits of an offset something ends up in the upper ones. */
const SPREAD = 0x9e37_79b1;

export class OffsetCounts {
  #offsets = new Float64Array(FIRST_SLOTS).fill(EMPTY);
  #counts = new Uint32Array(FIRST_SLOTS);
  #used = 0;

  get(offset: number): number {
    return this.#counts[this.#slotOf(offset)] ?? 0;
  }

  /** Returns the new count. */
  add(offset: number, count = 1): number {
    if (this.#used * 2 >= this.#offsets.length) this.#grow();
    const slot = this.#slotOf(offset);
    if (this.#offsets[slot] === EMPTY) {
      this.#offsets[slot] = offset;
      this.#used++;
    }
    const sum = (this.#counts[slot] ?? 0) + count;
    this.#counts[slot] = sum;
    return sum;
  }

  *[Symbol.iterator](): Generator<readonly [offset: number, count: number]> {
    for (const [slot, offset] of this.#offsets.entries()) {
      if (offset !== EMPTY) yield [offset, this.#counts[slot] ?? 0];
    }
  }

  /** Where the offset is, or would be. */
  #slotOf(offset: number): number {
    const mask = this.#offsets.length - 1;
    const mixed = Math.imul((offset % 0x1_0000_0000) ^ Math.floor(offset / 0x1_0000_0000), SPREAD);
    let slot = (mixed >>> 9) & mask;
    for (;;) {
      const found = this.#offsets[slot];
      if (found === offset || found === EMPTY) return slot;
      slot = (slot + 1) & mask;
    }
  }

  #grow(): void {
    const [offsets, counts] = [this.#offsets, this.#counts];
    this.#offsets = new Float64Array(offsets.length * 2).fill(EMPTY);
    this.#counts = new Uint32Array(offsets.length * 2);
    for (const [old, offset] of offsets.entries()) {
      if (offset === EMPTY) continue;
      const slot = this.#slotOf(offset);
      this.#offsets[slot] = offset;
      this.#counts[slot] = counts[old] ?? 0;
    }
  }
}
