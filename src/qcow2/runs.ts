// A list of cluster indexes that mostly follow each other: kept as runs, no object for each.

export class Runs {
  /** First index and count, in turn. */
  readonly #pairs: number[] = [];

  /** Numbers kept, for a bound on memory. */
  get length(): number {
    return this.#pairs.length;
  }

  /** Makes the last run longer where they touch. */
  add(first: number, count: number): void {
    const last = this.#pairs.length - 2;
    if (last >= 0 && (this.#pairs[last] ?? 0) + (this.#pairs[last + 1] ?? 0) === first) {
      this.#pairs[last + 1] = (this.#pairs[last + 1] ?? 0) + count;
    } else this.#pairs.push(first, count);
  }

  *[Symbol.iterator](): Generator<readonly [first: number, count: number]> {
    for (let i = 0; i < this.#pairs.length; i += 2) {
      yield [this.#pairs[i] ?? 0, this.#pairs[i + 1] ?? 0];
    }
  }
}
