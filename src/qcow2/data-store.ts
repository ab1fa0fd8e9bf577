// Where the guest's data clusters are kept, and how: everything that reads or writes one goes
// through here, so that map and allocator need not know.

import { copyBytes } from '../io/copy.ts';
import type { Storage } from '../io/storage.ts';
import type { HostRange } from '../layer.ts';

export interface DataStore {
  /** Holds the clusters: the image's own file, or its external data file. */
  readonly storage: Storage;
  /**
   * Not the image's own file: each cluster lies where it lies on the guest's disk, and has no
   * refcount.
   */
  readonly external: boolean;
  /** What is stored are not the guest's bytes (encryption): nobody may go around this. */
  readonly opaque: boolean;
  /** Fills `target` with the guest's bytes; `host` is their place, `guest` their disk offset. */
  read(host: number, guest: number, target: Uint8Array): Promise<void>;
  write(host: number, guest: number, source: Uint8Array): Promise<void>;
  /** Writes `length` bytes that lie, as the guest's, `from` bytes behind the source's place. */
  copyFrom(
    source: HostRange,
    from: number,
    host: number,
    guest: number,
    length: number,
  ): Promise<void>;
}

/** The guest's bytes as they are. */
export class PlainData implements DataStore {
  readonly storage: Storage;
  readonly external: boolean;
  readonly opaque = false;

  constructor(storage: Storage, external = false) {
    this.storage = storage;
    this.external = external;
  }

  read(host: number, _guest: number, target: Uint8Array): Promise<void> {
    return this.storage.read(host, target);
  }

  write(host: number, _guest: number, source: Uint8Array): Promise<void> {
    return this.storage.write(host, source, 'data');
  }

  async copyFrom(
    source: HostRange,
    from: number,
    host: number,
    _guest: number,
    length: number,
  ): Promise<void> {
    await copyBytes(source, from, { storage: this.storage, offset: host }, length);
  }
}
