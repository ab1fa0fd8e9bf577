// A part of another storage, as a storage of its own: from an offset, to a fixed end or to the end.

import { ImageError } from '../errors.ts';
import { FilterStorage, type StoragePlace } from './filter.ts';
import type { Storage, StorageExtent, WriteKind } from './storage.ts';

export class SliceStorage extends FilterStorage {
  readonly #offset: number;
  readonly #fixed: number | undefined;

  /** `size` undefined: all there is from `offset` on. */
  constructor(inner: Storage, offset: number, size: number | undefined) {
    super(inner);
    this.#offset = offset;
    this.#fixed = size;
  }

  override placeOf(offset: number): StoragePlace {
    return { storage: this.inner, offset: this.#offset + offset };
  }

  /** It has a size of its own, whatever becomes of the other storage. */
  get isFixed(): boolean {
    return this.#fixed !== undefined;
  }

  override get size(): number {
    return this.#fixed ?? Math.max(0, this.inner.size - this.#offset);
  }

  override get resizable(): boolean {
    return this.#fixed === undefined && this.inner.resizable;
  }

  override get growsZeroed(): boolean {
    return this.resizable && this.inner.growsZeroed;
  }

  override async read(offset: number, target: Uint8Array): Promise<void> {
    const inside = Math.max(0, Math.min(target.length, this.size - offset));
    if (inside > 0) await super.read(this.#offset + offset, target.subarray(0, inside));
    target.fill(0, inside);
  }

  override async write(offset: number, source: Uint8Array, kind: WriteKind): Promise<void> {
    this.#checkEnd(offset + source.length);
    await super.write(this.#offset + offset, source, kind);
  }

  override async zero(offset: number, length: number, kind: WriteKind): Promise<void> {
    this.#checkEnd(offset + length);
    await super.zero(this.#offset + offset, length, kind);
  }

  override async discard(offset: number, length: number): Promise<void> {
    const inside = Math.min(length, this.size - offset);
    await super.discard(this.#offset + Math.min(offset, this.size), Math.max(0, inside));
  }

  override async copyFrom(
    source: Storage,
    from: number,
    to: number,
    length: number,
  ): Promise<number> {
    this.#checkEnd(to + length);
    return await super.copyFrom(source, from, this.#offset + to, length);
  }

  override async extentAt(offset: number): Promise<StorageExtent> {
    const { data, end } = await super.extentAt(this.#offset + offset);
    return { data, end: Math.min(end - this.#offset, this.size) };
  }

  override async resize(size: number): Promise<void> {
    if (this.#fixed !== undefined) {
      throw new ImageError('invalid', 'Cannot resize fixed-size raw disks');
    }
    await super.resize(this.#offset + size);
  }

  #checkEnd(end: number): void {
    if (this.#fixed === undefined || end <= this.#fixed) return;
    throw new ImageError('no-space', `'${this.filename}': the part in use ends at ${this.#fixed}`, {
      errno: 'ENOSPC',
    });
  }
}
