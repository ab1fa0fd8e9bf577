// The file of an open image as everything that belongs to the image writes to it: the one place that
// all writes pass, whoever makes them, where each is compared with what lies at its target.

import { FilterStorage } from '../io/filter.ts';
import type { CloneRange, Storage, WriteKind } from '../io/storage.ts';
import type { Structures } from './overlap.ts';

export class GuardedStorage extends FilterStorage {
  /** Where the file can. */
  readonly cloneFrom?: (ranges: readonly CloneRange[]) => Promise<number>;
  #structures: Structures | undefined;

  private constructor(inner: Storage) {
    super(inner);
    if (inner.cloneFrom !== undefined) this.cloneFrom = (ranges) => this.#clone(ranges);
  }

  /** One of an image that was open before is taken off: it knows the places of then. */
  static over(storage: Storage): GuardedStorage {
    return new GuardedStorage(storage instanceof GuardedStorage ? storage.inner : storage);
  }

  /** The same file for those who have to go around the guard. */
  get unguarded(): Storage {
    return this.inner;
  }

  /** From here on nothing that these know of is overwritten with something else. */
  watch(structures: Structures): void {
    this.#structures = structures;
  }

  override async write(offset: number, source: Uint8Array, kind: WriteKind): Promise<void> {
    this.#structures?.checkWrite(offset, source.length, kind);
    await this.inner.write(offset, source, kind);
  }

  override async zero(offset: number, length: number, kind: WriteKind): Promise<void> {
    this.#structures?.checkWrite(offset, length, kind);
    await this.inner.zero(offset, length, kind);
  }

  /** A cluster that is given back may read as anything afterwards. */
  override async discard(offset: number, length: number): Promise<void> {
    this.#structures?.checkWrite(offset, length, 'data');
    await this.inner.discard(offset, length);
  }

  override async copyFrom(
    source: Storage,
    from: number,
    to: number,
    length: number,
  ): Promise<number> {
    this.#structures?.checkWrite(to, length, 'data');
    return await this.inner.copyFrom(unguarded(source), from, to, length);
  }

  async canClone(source: Storage): Promise<boolean> {
    return (await this.inner.canClone?.(unguarded(source))) ?? false;
  }

  async #clone(ranges: readonly CloneRange[]): Promise<number> {
    for (const { to, length } of ranges) this.#structures?.checkWrite(to, length, 'data');
    const below = ranges.map((range) => ({ ...range, source: unguarded(range.source) }));
    return (await this.inner.cloneFrom?.(below)) ?? 0;
  }

  async allocate(offset: number, length: number): Promise<boolean> {
    this.#structures?.checkWrite(offset, length, 'data');
    return (await this.inner.allocate?.(offset, length)) ?? false;
  }
}

/** What is below a guard, for those who only read: the kernel copies from one file to another. */
export function unguarded(storage: Storage): Storage {
  return storage instanceof GuardedStorage ? storage.unguarded : storage;
}
