// A set of cluster indexes that may be millions and changes little: eight bytes each.

export class ClusterSet {
  readonly #sorted: Float64Array;
  readonly #added = new Set<number>();
  readonly #removed = new Set<number>();

  constructor(clusters: Float64Array) {
    this.#sorted = clusters.slice().sort();
  }

  add(cluster: number): void {
    this.#removed.delete(cluster);
    this.#added.add(cluster);
  }

  delete(cluster: number): void {
    this.#added.delete(cluster);
    this.#removed.add(cluster);
  }

  has(cluster: number): boolean {
    if (this.#added.has(cluster)) return true;
    return !this.#removed.has(cluster) && this.#isSorted(cluster);
  }

  #isSorted(cluster: number): boolean {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle] ?? 0) < cluster) low = middle + 1;
      else high = middle;
    }
    return this.#sorted[low] === cluster;
  }
}
