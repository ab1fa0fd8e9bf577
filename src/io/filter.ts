// A storage that passes everything on to another one: what the filters over it have in common.

import type { StorageEvent } from './events.ts';
import type { Permission } from './locks.ts';
import type { Storage, StorageExtent, WriteKind } from './storage.ts';

/** A byte of a storage. */
export interface StoragePlace {
  readonly storage: Storage;
  readonly offset: number;
}

/** Where it lies in the storage that is below all filters: in the file, as it is there. */
export function lowestPlace(place: StoragePlace): StoragePlace {
  let lowest = place;
  while (lowest.storage instanceof FilterStorage) lowest = lowest.storage.placeOf(lowest.offset);
  return lowest;
}

export class FilterStorage implements Storage {
  protected readonly inner: Storage;

  /** There only where somebody below listens: who asks for it goes the slow way for that. */
  event?: (name: StorageEvent) => void;

  constructor(inner: Storage) {
    this.inner = inner;
    if (inner.event !== undefined) this.event = (name) => inner.event?.(name);
  }

  /** Where a byte of it lies in the storage below. */
  placeOf(offset: number): StoragePlace {
    return { storage: this.inner, offset };
  }

  get filename(): string {
    return this.inner.filename;
  }

  get writable(): boolean {
    return this.inner.writable;
  }

  get size(): number {
    return this.inner.size;
  }

  get resizable(): boolean {
    return this.inner.resizable;
  }

  get fixedKind(): string | undefined {
    return this.inner.fixedKind;
  }

  get growsZeroed(): boolean {
    return this.inner.growsZeroed;
  }

  read(offset: number, target: Uint8Array): Promise<void> {
    return this.inner.read(offset, target);
  }

  write(offset: number, source: Uint8Array, kind: WriteKind): Promise<void> {
    return this.inner.write(offset, source, kind);
  }

  zero(offset: number, length: number, kind: WriteKind): Promise<void> {
    return this.inner.zero(offset, length, kind);
  }

  discard(offset: number, length: number): Promise<void> {
    return this.inner.discard(offset, length);
  }

  async discardFreesSpace(): Promise<boolean> {
    return (await this.inner.discardFreesSpace?.()) ?? false;
  }

  copyFrom(source: Storage, from: number, to: number, length: number): Promise<number> {
    return this.inner.copyFrom(source, from, to, length);
  }

  extentAt(offset: number): Promise<StorageExtent> {
    return this.inner.extentAt(offset);
  }

  allocatedBytes(): Promise<number | undefined> {
    return this.inner.allocatedBytes();
  }

  flush(): Promise<void> {
    return this.inner.flush();
  }

  resize(size: number): Promise<void> {
    return this.inner.resize(size);
  }

  lock(use: readonly Permission[], share: readonly Permission[]): Promise<void> {
    return this.inner.lock(use, share);
  }

  makeWritable(use: readonly Permission[], share: readonly Permission[]): Promise<void> {
    return this.inner.makeWritable(use, share);
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}
