// Clusters taken for structures that nothing points to yet, so that all of them can be given back.

import { divideUp } from '../units.ts';
import type { PlaceContext } from './place.ts';
import { Runs } from './runs.ts';

export class NewClusters {
  readonly #context: PlaceContext;
  readonly #singles = new Runs();
  /** Host offset -> clusters. */
  readonly #pieces = new Map<number, number>();

  constructor(context: PlaceContext) {
    this.#context = context;
  }

  /** Room for so many bytes in one piece; returns its offset. */
  async piece(lengthBytes: number): Promise<number> {
    const { allocator, geometry } = this.#context;
    const { host, count } = await allocator.takeContiguous(
      divideUp(lengthBytes, geometry.clusterSize),
    );
    this.#pieces.set(host, count);
    return host;
  }

  /** A cluster for each key, which gets its offset. */
  async singles(places: Map<number, number>): Promise<void> {
    const { allocator, geometry } = this.#context;
    const keys = [...places.keys()];
    for (let done = 0; done < keys.length; ) {
      const { host, count } = await allocator.take(keys.length - done);
      this.#singles.add(host / geometry.clusterSize, count);
      for (let i = 0; i < count; i++) {
        places.set(keys[done + i] ?? 0, host + i * geometry.clusterSize);
      }
      done += count;
    }
  }

  /** Gives a piece back that turned out too small. */
  release(host: number): void {
    const { tables, geometry } = this.#context;
    tables.free(host / geometry.clusterSize, this.#pieces.get(host) ?? 0);
    this.#pieces.delete(host);
  }

  /** Called once, after a failure. */
  async giveBack(): Promise<void> {
    const { tables } = this.#context;
    for (const host of [...this.#pieces.keys()]) this.release(host);
    for (const [first, count] of this.#singles) tables.free(first, count);
    await tables.checkpoint();
  }
}
