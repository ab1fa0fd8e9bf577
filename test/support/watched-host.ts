// Files in memory whose every change is told about before it happens: to be written down, or to be
// refused with an error.

import type { OpenStorageOptions } from '../../src/io/host.ts';
import type { Permission } from '../../src/io/locks.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import type { Storage, StorageExtent, WriteKind } from '../../src/io/storage.ts';

export type Change = { readonly filename: string } & (
  | {
      readonly kind: 'write';
      readonly offset: number;
      readonly bytes: Uint8Array;
      readonly what: WriteKind;
    }
  | { readonly kind: 'zero'; readonly offset: number; readonly length: number }
  | { readonly kind: 'resize'; readonly size: number }
  | { readonly kind: 'flush' }
);

/** May throw, or reject: then the change does not happen. */
export type Watcher = (change: Change) => void | Promise<void>;

export class WatchedStorage implements Storage {
  readonly growsZeroed = true;
  readonly #inner: Storage;
  readonly #watch: Watcher;

  constructor(inner: Storage, watch: Watcher) {
    this.#inner = inner;
    this.#watch = watch;
  }

  get filename(): string {
    return this.#inner.filename;
  }
  get writable(): boolean {
    return this.#inner.writable;
  }
  get size(): number {
    return this.#inner.size;
  }
  get resizable(): boolean {
    return this.#inner.resizable;
  }

  read(offset: number, target: Uint8Array): Promise<void> {
    return this.#inner.read(offset, target);
  }
  async write(offset: number, source: Uint8Array, what: WriteKind): Promise<void> {
    const { filename } = this;
    await this.#watch({ kind: 'write', filename, offset, bytes: source.slice(), what });
    await this.#inner.write(offset, source, what);
  }
  async zero(offset: number, length: number, what: WriteKind): Promise<void> {
    await this.#watch({ kind: 'zero', filename: this.filename, offset, length });
    await this.#inner.zero(offset, length, what);
  }
  async discard(offset: number, length: number): Promise<void> {
    await this.#watch({ kind: 'zero', filename: this.filename, offset, length });
    await this.#inner.discard(offset, length);
  }
  async resize(size: number): Promise<void> {
    await this.#watch({ kind: 'resize', filename: this.filename, size });
    await this.#inner.resize(size);
  }
  async flush(): Promise<void> {
    await this.#watch({ kind: 'flush', filename: this.filename });
    await this.#inner.flush();
  }
  async copyFrom(): Promise<number> {
    return 0;
  }
  extentAt(offset: number): Promise<StorageExtent> {
    return this.#inner.extentAt(offset);
  }
  allocatedBytes(): Promise<number | undefined> {
    return this.#inner.allocatedBytes();
  }
  lock(use: readonly Permission[], share: readonly Permission[]): Promise<void> {
    return this.#inner.lock(use, share);
  }
  makeWritable(use: readonly Permission[], share: readonly Permission[]): Promise<void> {
    return this.#inner.makeWritable(use, share);
  }
  close(): Promise<void> {
    return this.#inner.close();
  }
}

export class WatchedHost extends MemoryHost {
  watch: Watcher = () => undefined;

  override async openStorage(filename: string, options: OpenStorageOptions): Promise<Storage> {
    const storage = await super.openStorage(filename, options);
    return new WatchedStorage(storage, (change) => this.watch(change));
  }
}

/** A host with these files, as they are. */
export function hostWith<H extends MemoryHost>(host: H, files: ReadonlyMap<string, Uint8Array>): H {
  for (const [filename, content] of files) host.addFile(filename, content);
  return host;
}
