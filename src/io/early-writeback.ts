// Has the disk begin with what was written while more is being written: else all of it waits for the
// sync at the end, and the disk has nothing to do meanwhile. Nothing is durable by it.

import type { Descriptor } from './descriptor.ts';
import type { CacheMode } from './host.ts';
import type { Syscalls } from './syscalls.ts';

/** Bytes written between two starts; few enough to keep the disk busy, many for each to be worth it. */
const BETWEEN = 8 * 1024 * 1024;

export class EarlyWriteback {
  readonly #calls: () => Promise<Syscalls | null>;
  readonly #isCached: boolean;
  #waiting = 0;
  #running = false;

  constructor(cache: CacheMode, calls: () => Promise<Syscalls | null>) {
    this.#isCached = cache === 'writeback';
    this.#calls = calls;
  }

  /** So many bytes went to the page cache. */
  written(descriptor: Descriptor, length: number): void {
    this.#waiting += length;
    if (this.#isCached && this.#waiting >= BETWEEN && !this.#running) void this.#start(descriptor);
  }

  async #start(descriptor: Descriptor): Promise<void> {
    this.#running = true;
    this.#waiting = 0;
    try {
      const calls = await this.#calls();
      await descriptor.use(async (fd) => calls?.startWriteback(fd));
    } catch {
      // Closed meanwhile, or not to be had: the sync does it all.
    } finally {
      this.#running = false;
    }
  }
}
