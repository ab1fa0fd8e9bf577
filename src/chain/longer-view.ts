// A layer as it will be seen once its disk has grown: longer by zeros. What is written into an image
// above it is explicit there then, and not left out because nothing lies below.

import { checkRange, type Extent, type HostRange, type Layer } from '../layer.ts';

export class LongerView implements Layer {
  readonly size: number;
  readonly #inner: Layer;

  /** `size`: bytes; at least those of the layer. The layer stays with its owner. */
  constructor(inner: Layer, size: number) {
    this.#inner = inner;
    this.size = size;
  }

  get filename(): string {
    return this.#inner.filename;
  }
  get format(): Layer['format'] {
    return this.#inner.format;
  }
  get clusterSize(): number {
    return this.#inner.clusterSize;
  }
  get writable(): boolean {
    return false;
  }
  get storage(): Layer['storage'] {
    return this.#inner.storage;
  }
  get backing(): Layer | null {
    return this.#inner.backing;
  }

  async extents(offset: number, length: number): Promise<readonly Extent[]> {
    checkRange(this, offset, length);
    const inside = Math.min(length, this.#inner.size - offset);
    if (inside <= 0) return [{ kind: 'zero', offset, length }];
    return await this.#inner.extents(offset, inside);
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    checkRange(this, offset, target.length);
    const inside = Math.max(0, Math.min(target.length, this.#inner.size - offset));
    if (inside > 0) await this.#inner.read(offset, target.subarray(0, inside));
    target.fill(0, inside);
  }

  write(offset: number, source: Uint8Array): Promise<void> {
    return this.#inner.write(offset, source);
  }
  zero(offset: number, length: number): Promise<void> {
    return this.#inner.zero(offset, length);
  }
  writeFrom(offset: number, source: HostRange, length: number): Promise<void> {
    return this.#inner.writeFrom(offset, source, length);
  }
  grow(size: number): Promise<void> {
    return this.#inner.grow(size);
  }
  flush(): Promise<void> {
    return this.#inner.flush();
  }
  async close(): Promise<void> {}
}
