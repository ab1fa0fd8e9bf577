// Bytes in memory as Storage: for tests, for browsers, for images that were downloaded.

import { ImageError } from '../errors.ts';
import type { Permission } from './locks.ts';
import type { Storage, StorageExtent, WriteKind } from './storage.ts';

/**
 * Content that outlives the storages through which it is used.
 *
 * @internal
 */
export class MemoryFile {
  #bytes: Uint8Array;
  #size: number;

  /** Starts with a copy of `content`. */
  constructor(content: Uint8Array = new Uint8Array()) {
    this.#bytes = content.slice();
    this.#size = content.length;
  }

  get size(): number {
    return this.#size;
  }

  /** Not a copy; what lies past the end is left out. Valid until the next change of size. */
  view(start: number, end: number): Uint8Array {
    return this.#bytes.subarray(Math.min(start, this.#size), Math.min(end, this.#size));
  }

  growTo(size: number): void {
    if (size > this.#size) this.resize(size);
  }

  resize(size: number): void {
    if (size > this.#bytes.length) this.#reserve(Math.max(size, this.#bytes.length * 2), size);
    // What is cut off must not come back when it grows again.
    if (size < this.#size) this.#bytes.fill(0, size, this.#size);
    this.#size = size;
  }

  /** Doubling keeps the cost of appending small; near the end of memory the bare size may do. */
  #reserve(wanted: number, needed: number): void {
    const bytes = allocate(wanted) ?? allocate(needed);
    if (bytes === undefined) {
      throw new ImageError('no-space', `no memory for ${needed} bytes`, { errno: 'ENOSPC' });
    }
    bytes.set(this.view(0, this.#size));
    this.#bytes = bytes;
  }
}

function allocate(length: number): Uint8Array | undefined {
  try {
    return new Uint8Array(length);
  } catch {
    return undefined;
  }
}

/** How a {@link MemoryStorage} shows itself. */
export interface MemoryStorageOptions {
  /** The name for messages. Default `memory`. */
  readonly filename?: string;
  /** Default true. */
  readonly writable?: boolean;
}

/** Bytes in memory; holes and locks it knows none. */
export class MemoryStorage implements Storage {
  readonly filename: string;
  readonly resizable = true;
  readonly growsZeroed = true;
  readonly #file: MemoryFile;
  #writable: boolean;

  /** Over a copy of `content`. Default: no bytes. */
  constructor(content?: Uint8Array, options?: MemoryStorageOptions);
  /**
   * Over a file in memory, as it is.
   *
   * @internal
   */
  constructor(content: MemoryFile, options?: MemoryStorageOptions);
  constructor(
    content: Uint8Array | MemoryFile = new Uint8Array(),
    options: MemoryStorageOptions = {},
  ) {
    this.#file = content instanceof MemoryFile ? content : new MemoryFile(content);
    this.filename = options.filename ?? 'memory';
    this.#writable = options.writable ?? true;
  }

  get size(): number {
    return this.#file.size;
  }

  get writable(): boolean {
    return this.#writable;
  }

  /** A copy of the content. */
  bytes(): Uint8Array {
    return this.#file.view(0, this.size).slice();
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const part = this.#file.view(offset, offset + target.length);
    target.set(part);
    target.fill(0, part.length);
  }

  async write(offset: number, source: Uint8Array, _kind: WriteKind): Promise<void> {
    this.#checkWritable();
    if (source.length === 0) return;
    this.#file.growTo(offset + source.length);
    this.#file.view(offset, offset + source.length).set(source);
  }

  async zero(offset: number, length: number, _kind: WriteKind): Promise<void> {
    this.#checkWritable();
    this.#file.view(offset, offset + length).fill(0);
    this.#file.growTo(offset + length);
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#checkWritable();
    this.#file.view(offset, offset + length).fill(0);
  }

  async copyFrom(): Promise<number> {
    return 0;
  }

  async extentAt(): Promise<StorageExtent> {
    return { data: true, end: this.size };
  }

  async allocatedBytes(): Promise<number> {
    return this.size;
  }

  async flush(): Promise<void> {}

  async resize(size: number): Promise<void> {
    this.#checkWritable();
    this.#file.resize(size);
  }

  async lock(_use: readonly Permission[], _share: readonly Permission[]): Promise<void> {}

  async makeWritable(): Promise<void> {
    this.#writable = true;
  }

  async close(): Promise<void> {}

  #checkWritable(): void {
    if (this.#writable) return;
    throw new ImageError('read-only', `'${this.filename}' is open for reading only`, {
      errno: 'EBADF',
    });
  }
}
