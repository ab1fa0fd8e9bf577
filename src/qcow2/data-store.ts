// Where the guest's data clusters are kept, and how: everything that reads or writes one goes
// through here, so that map and allocator need not know.

import { ImageError } from '../errors.ts';
import { copyBytes } from '../io/copy.ts';
import type { Storage } from '../io/storage.ts';
import type { HostRange } from '../layer.ts';
import type { Header } from './header.ts';
import { AUTOCLEAR, INCOMPATIBLE } from './spec.ts';

export interface DataStore {
  /** Holds the clusters: the image's own file, or its external data file. */
  readonly storage: Storage;
  /**
   * Not the image's own file: each cluster lies where it lies on the guest's disk, and has no
   * refcount.
   */
  readonly external: boolean;
  /** External, and read by others without the map: it must hold what the guest sees. */
  readonly raw: boolean;
  /** What is stored are not the guest's bytes (encryption): nobody may go around this. */
  readonly opaque: boolean;
  /** Why nothing can be read or written here. */
  readonly refusal?: ImageError;
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
  readonly raw: boolean;
  readonly opaque = false;

  constructor(storage: Storage, { external = false, raw = false } = {}) {
    this.storage = storage;
    this.external = external;
    this.raw = raw;
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

/** Of an image that is only described: its data file is not open. */
class UnopenedData implements DataStore {
  readonly storage: Storage;
  readonly external = true;
  readonly raw = false;
  readonly opaque = true;
  readonly refusal: ImageError;

  constructor(storage: Storage, refusal?: ImageError) {
    this.storage = storage;
    this.refusal =
      refusal ?? new ImageError('invalid', `${storage.filename}: its data file is not open`);
  }

  async read(): Promise<void> {
    throw this.refusal;
  }

  async write(): Promise<void> {
    throw this.refusal;
  }

  async copyFrom(): Promise<void> {
    throw this.refusal;
  }
}

/** Opens an external data file by the name that the header stores; null where it stores none. */
export type OpenDataFile = (name: string | null) => Promise<Storage>;

export interface DataStoreOptions {
  /** Without it an image with an external data file can only be described. */
  readonly openDataFile?: OpenDataFile | undefined;
  /** An image whose data file can't be opened can still be described. Default false. */
  readonly describe?: boolean | undefined;
}

/** The store that the header asks for. */
export async function openDataStore(
  storage: Storage,
  { incompatibleFeatures, autoclearFeatures, dataFile }: Header,
  { openDataFile, describe }: DataStoreOptions,
): Promise<DataStore> {
  if ((incompatibleFeatures & INCOMPATIBLE.externalDataFile) === 0n) return new PlainData(storage);
  if (openDataFile === undefined) return new UnopenedData(storage);
  try {
    const raw = (autoclearFeatures & AUTOCLEAR.rawExternalData) !== 0n;
    return new PlainData(await openDataFile(dataFile), { external: true, raw });
  } catch (error) {
    if (!describe || !(error instanceof ImageError)) throw error;
    return new UnopenedData(storage, error);
  }
}
