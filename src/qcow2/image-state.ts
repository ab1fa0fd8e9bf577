// An open image as far as its header and tables tell: what reading and writing both start from.

import type { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { MIB } from '../units.ts';
import { Allocator } from './allocator.ts';
import { bitmapDirectoryIn } from './bitmap-directory.ts';
import type { DataStore } from './data-store.ts';
import { LockedData } from './encryption/encrypted-data.ts';
import type { Encryption } from './encryption/open.ts';
import { type Geometry, l1IndexOf } from './geometry.ts';
import { countFree, type FreeClusters } from './growth.ts';
import type { GuardedStorage } from './guarded-storage.ts';
import { type Checking, geometryOfHeader, type Header, parseHeader } from './header.ts';
import { readHeaderCluster } from './header-cluster.ts';
import { Holes } from './holes.ts';
import type { OpenImageOptions, TablesOptions } from './image-options.ts';
import type { OpenedData } from './open-data.ts';
import type { PlaceContext } from './place.ts';
import { readSnapshots, type Snapshot } from './snapshots.ts';
import { INCOMPATIBLE } from './spec.ts';
import { Tables } from './tables.ts';

/** Of tables in memory, in bytes. */
const DEFAULT_CACHE = 16 * MIB;

export function tablesOptions({ cacheBytes, guarded }: OpenImageOptions): TablesOptions {
  return { cacheBytes: cacheBytes ?? DEFAULT_CACHE, guarded };
}

export abstract class ImageState {
  readonly format = 'qcow2';
  /** Its file; what is written to it passes the guard of its structures. */
  readonly storage: GuardedStorage;
  readonly geometry: Geometry;
  readonly data: DataStore;
  /** What the header says of it; null without encryption. */
  readonly encryption: Encryption | null;
  protected headerNow: Header;
  protected context: PlaceContext;
  /** Of the virtual disk. */
  protected sizeNow: number;
  readonly #tablesOptions: TablesOptions;

  protected constructor(
    storage: GuardedStorage,
    header: Header,
    { data, encryption }: OpenedData,
    tables: Tables,
    options: OpenImageOptions,
  ) {
    this.storage = storage;
    this.headerNow = header;
    this.geometry = geometryOfHeader(header);
    this.data = data;
    this.encryption = encryption;
    this.#tablesOptions = tablesOptions(options);
    this.sizeNow = header.size;
    this.context = this.#newContext(tables);
  }

  /** Reads and checks the header alone. */
  static async readHeader(storage: Storage, checking: Checking = false): Promise<Header> {
    return parseHeader(await readHeaderCluster(storage), checking);
  }

  #newContext(tables: Tables): PlaceContext {
    const { storage, geometry } = this;
    const allocator = new Allocator(storage, geometry, tables);
    return {
      filename: storage.filename,
      geometry,
      version: this.header.version,
      tables,
      allocator,
      data: this.data,
      holes: new Holes(storage),
    };
  }

  /** As it was when the image was opened or emptied. */
  get header(): Header {
    return this.headerNow;
  }

  get filename(): string {
    return this.storage.filename;
  }

  get size(): number {
    return this.sizeNow;
  }

  get clusterSize(): number {
    return this.geometry.clusterSize;
  }

  get writable(): boolean {
    return this.storage.writable;
  }

  get tables(): Tables {
    return this.context.tables;
  }

  /**
   * Up to where nothing is allocated from `offset` on, as far as the tables in memory tell, and what is
   * known of holes in the file; may be before `offset`.
   */
  emptyEnd(offset: number): number {
    const { tables, geometry } = this;
    let next = tables.nextL2(l1IndexOf(offset, geometry), tables.l1Entries);
    while (next < tables.l1Entries && this.#isHidden(next)) {
      next = tables.nextL2(next + 1, tables.l1Entries);
    }
    return Math.min(this.size, next * geometry.l2Coverage);
  }

  #isHidden(l1Index: number): boolean {
    const { holes, tables, geometry } = this.context;
    const place = tables.l2Offset(l1Index);
    // A place between two clusters is told of by who goes there.
    return place % geometry.clusterSize === 0 && holes.areKnownToHide(place, geometry.clusterSize);
  }

  get dirty(): boolean {
    return (this.header.incompatibleFeatures & INCOMPATIBLE.dirty) !== 0n;
  }

  get corrupt(): boolean {
    return (this.header.incompatibleFeatures & INCOMPATIBLE.corrupt) !== 0n;
  }

  snapshots(): Promise<readonly Snapshot[]> {
    return readSnapshots(this.storage, this.header);
  }

  /** The feature that keeps us from reading the guest's data, in words; null if there is none. */
  get unsupportedForReading(): string | null {
    return this.locked ? 'encryption' : null;
  }

  /** Encrypted, and opened without a key: map and header alone can be read and changed. */
  get locked(): boolean {
    return this.data instanceof LockedData;
  }

  /** Why the guest's data can't be read; null if it can. */
  get refusalToRead(): ImageError | null {
    return this.refusalToMap ?? this.data.refusal ?? null;
  }

  /** Why it can't be told where the guest's data lies; null if it can. */
  get refusalToMap(): ImageError | null {
    return this.locked ? null : (this.data.refusal ?? null);
  }

  /** Header and tables lie elsewhere, or say something else, than when they were read. */
  protected async reload(): Promise<PlaceContext> {
    this.headerNow = await ImageState.readHeader(this.storage);
    this.sizeNow = this.headerNow.size;
    const { storage, geometry, header } = this;
    const tables = await Tables.load(storage, geometry, header, this.#tablesOptions);
    // Whoever switches to other tables writes on.
    await tables.loadRefcountTable();
    this.context = this.#newContext(tables);
    return this.context;
  }

  /** Clusters that nothing uses. Reads all refcount blocks. */
  async freeClusters(): Promise<FreeClusters> {
    await this.tables.loadRefcountTable();
    return countFree(this.context, this.storage.size);
  }

  /** Its extensions say something else than when it was read. */
  protected async readHeaderAgain(): Promise<void> {
    this.headerNow = await ImageState.readHeader(this.storage);
    this.tables.structures.place('bitmap-directory', bitmapDirectoryIn(this.headerNow));
  }
}
