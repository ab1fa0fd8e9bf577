// Bytes in memory as Storage: for tests, for browsers, for images that were downloaded.

import { ImageError } from '../errors.ts';
import type { Permission } from './locks.ts';
import type { Storage, StorageExtent, WriteKind } from './storage.ts';

export class MemoryStorage implements Storage {
  readonly filename: string;
  readonly resizable = true;
  readonly growsZeroed = true;
  #writable: boolean;
  #bytes: Uint8Array;
  #size: number;

  /** Starts with a copy of `content`. */
  constructor(
    content: Uint8Array = new Uint8Array(),
    options: { readonly filename?: string; readonly writable?: boolean } = {},
  ) {
    this.#bytes = content.slice();
    this.#size = content.length;
    this.filename = options.filename ?? 'memory';
    this.#writable = options.writable ?? true;
  }

  get size(): number {
    return this.#size;
  }

  get writable(): boolean {
    return this.#writable;
  }

  /** A copy of the content. */
  bytes(): Uint8Array {
    return this.#bytes.slice(0, this.#size);
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const part = this.#bytes.subarray(offset, Math.min(offset + target.length, this.#size));
    target.set(part);
    target.fill(0, part.length);
  }

  async write(offset: number, source: Uint8Array, _kind: WriteKind): Promise<void> {
    this.#checkWritable();
    this.#reserve(offset + source.length);
    this.#bytes.set(source, offset);
    this.#size = Math.max(this.#size, offset + source.length);
  }

  async zero(offset: number, length: number, _kind: WriteKind): Promise<void> {
    this.#checkWritable();
    this.#reserve(offset + length);
    this.#bytes.fill(0, offset, offset + length);
    this.#size = Math.max(this.#size, offset + length);
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#checkWritable();
    this.#bytes.fill(0, offset, Math.min(offset + length, this.#size));
  }

  async copyFrom(): Promise<number> {
    return 0;
  }

  async extentAt(): Promise<StorageExtent> {
    return { data: true, end: this.#size };
  }

  async allocatedBytes(): Promise<number> {
    return this.#size;
  }

  async flush(): Promise<void> {}

  async resize(size: number): Promise<void> {
    this.#checkWritable();
    this.#reserve(size);
    // What is cut off must not come back when it grows again.
    if (size < this.#size) this.#bytes.fill(0, size, this.#size);
    this.#size = size;
  }

  async lock(_use: readonly Permission[], _share: readonly Permission[]): Promise<void> {}

  async makeWritable(): Promise<void> {
    this.#writable = true;
  }

  async close(): Promise<void> {}

  #reserve(size: number): void {
    if (size <= this.#bytes.length) return;
    const bytes = new Uint8Array(Math.max(size, this.#bytes.length * 2));
    bytes.set(this.#bytes.subarray(0, this.#size));
    this.#bytes = bytes;
  }

  #checkWritable(): void {
    if (!this.#writable) throw new ImageError('read-only', `${this.filename} is read-only`);
  }
}
