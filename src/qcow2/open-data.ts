// The data store of an image that is being opened: the file that holds its clusters, and the
// encryption between.

import type { Codecs } from '../io/host.ts';
import type { Storage } from '../io/storage.ts';
import { type DataStore, type DataStoreOptions, openDataStore } from './data-store.ts';
import { EncryptedData, LockedData } from './encryption/encrypted-data.ts';
import { type Encryption, readEncryption, unlock } from './encryption/open.ts';
import type { Header } from './header.ts';

export interface OpenDataOptions extends DataStoreOptions {
  /** Needed for compressed clusters and encryption alone. */
  readonly codecs?: Codecs;
  /**
   * Asked for the passphrase of an encrypted image, as UTF-8; without one, its data can't be read
   * or written. Told of each header; may throw.
   */
  readonly passphrase?: (header: Header) => Uint8Array | undefined;
}

export interface OpenedData {
  readonly data: DataStore;
  /** What the header says of it; null without encryption. */
  readonly encryption: Encryption | null;
}

/** Rejects with `invalid` where the passphrase is wrong. */
export async function openData(
  storage: Storage,
  header: Header,
  options: OpenDataOptions,
): Promise<OpenedData> {
  const passphrase = options.passphrase?.(header);
  const encryption = await readEncryption(storage, header);
  if (encryption === null) {
    return { data: await openDataStore(storage, header, options), encryption };
  }
  const key =
    passphrase === undefined
      ? undefined
      : await unlock(storage, encryption, passphrase, options.codecs);
  const stored = await openDataStore(storage, header, options);
  // Nothing of it is there to be encrypted.
  if (stored.refusal !== undefined) return { data: stored, encryption };
  const data = key === undefined ? new LockedData(stored) : new EncryptedData(stored, key);
  return { data, encryption };
}
