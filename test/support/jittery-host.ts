// Files in memory that take their time: each call waits a random number of turns before it happens and
// before it comes back, so that calls under way at once overtake each other.

import { FilterStorage } from '../../src/io/filter.ts';
import type { OpenStorageOptions } from '../../src/io/host.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import type { Storage, WriteKind } from '../../src/io/storage.ts';
import { type Random, randomFrom } from './power-cut.ts';

/** Turns that a call waits at most, before and after. */
const MOST_TURNS = 4;

export async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

class JitteryStorage extends FilterStorage {
  readonly #random: Random;

  constructor(inner: Storage, random: Random) {
    super(inner);
    this.#random = random;
  }

  async #late<T>(work: () => Promise<T>): Promise<T> {
    await turns(this.#random(MOST_TURNS));
    const result = await work();
    await turns(this.#random(MOST_TURNS));
    return result;
  }

  override read(offset: number, target: Uint8Array): Promise<void> {
    return this.#late(() => super.read(offset, target));
  }

  override write(offset: number, source: Uint8Array, kind: WriteKind): Promise<void> {
    return this.#late(() => super.write(offset, source, kind));
  }

  override zero(offset: number, length: number, kind: WriteKind): Promise<void> {
    return this.#late(() => super.zero(offset, length, kind));
  }

  override discard(offset: number, length: number): Promise<void> {
    return this.#late(() => super.discard(offset, length));
  }

  override flush(): Promise<void> {
    return this.#late(() => super.flush());
  }
}

export class JitteryHost extends MemoryHost {
  #random: Random | undefined;

  /** From now on files take their time. */
  start(seed: number): void {
    this.#random = randomFrom(seed);
  }

  stop(): void {
    this.#random = undefined;
  }

  override async openStorage(filename: string, options: OpenStorageOptions): Promise<Storage> {
    const storage = await super.openStorage(filename, options);
    return this.#random === undefined ? storage : new JitteryStorage(storage, this.#random);
  }
}
