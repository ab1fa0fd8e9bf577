// A host in memory on a clock that only sleeping moves: tests of rates take no time.

import { MemoryHost } from '../../src/io/memory-host.ts';

export class SimulatedHost extends MemoryHost {
  #now = 1_000_000;
  /** Called at the end of each sleep. */
  onWake: () => void = () => undefined;

  override now(): number {
    return this.#now;
  }

  override async sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    // What runs meanwhile gets its turn.
    await new Promise((resolve) => setImmediate(resolve));
    this.#now += milliseconds;
    this.onWake();
    signal?.throwIfAborted();
  }
}
