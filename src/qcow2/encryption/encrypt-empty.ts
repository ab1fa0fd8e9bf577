// Makes a new image, which has no disk yet, an encrypted one.

import { ImageError } from '../../errors.ts';
import type { Host } from '../../io/host.ts';
import type { Storage } from '../../io/storage.ts';
import { divideUp, MIB } from '../../units.ts';
import { Allocator } from '../allocator.ts';
import { encodeEncryptionHeader } from '../extensions.ts';
import { encodeHeader, geometryOfHeader, type NewHeader, parseHeader } from '../header.ts';
import { readHeaderCluster } from '../header-cluster.ts';
import { CRYPT_AES, CRYPT_LUKS, EXTENSION } from '../spec.ts';
import { Tables } from '../tables.ts';
import { type NewLuksOptions, newLuksArea } from './new-luks.ts';

/** What a new disk is encrypted with. The passphrase is UTF-8. */
export type NewEncryption =
  | { readonly format: 'aes'; readonly passphrase: Uint8Array }
  | ({ readonly format: 'luks' } & NewLuksOptions);

/** What encryption needs of a host. */
export type CreateHost = Pick<Host, 'codecs' | 'now'>;

const CACHE_BYTES = MIB;

/** `header`: as it was written to the storage, but for the backing file. Returns the new one. */
export async function encryptEmpty(
  storage: Storage,
  header: NewHeader,
  encryption: NewEncryption | undefined,
  host: CreateHost | undefined,
): Promise<NewHeader> {
  if (encryption === undefined) return header;
  const marked =
    encryption.format === 'aes'
      ? { ...header, cryptMethod: CRYPT_AES }
      : await withLuks(storage, header, encryption, host);
  await storage.write(0, encodeHeader({ ...marked, backingFile: null }), 'header');
  return marked;
}

async function withLuks(
  storage: Storage,
  header: NewHeader,
  options: NewLuksOptions,
  host: CreateHost | undefined,
): Promise<NewHeader> {
  const crypto = await host?.codecs.loadCrypto?.();
  if (host === undefined || crypto === undefined) {
    throw new ImageError('unsupported', 'The host has no cryptography');
  }
  const area = await newLuksArea(crypto, () => host.now(), options);
  const offset = await placeArea(storage, area);
  // The refcount table may have moved for it.
  const { refcountTableOffset, refcountTableClusters } = await readHeader(storage);
  return {
    ...header,
    refcountTableOffset,
    refcountTableClusters,
    cryptMethod: CRYPT_LUKS,
    extensions: withPointer(header.extensions, offset, area.length),
  };
}

async function readHeader(storage: Storage) {
  return parseHeader(await readHeaderCluster(storage));
}

/** Into clusters of its own, in one piece; durable then. */
async function placeArea(storage: Storage, area: Uint8Array): Promise<number> {
  const header = await readHeader(storage);
  const geometry = geometryOfHeader(header);
  const tables = await Tables.load(storage, geometry, header, { cacheBytes: CACHE_BYTES });
  const clusters = divideUp(area.length, geometry.clusterSize);
  const { host } = await new Allocator(storage, geometry, tables).takeContiguous(clusters);
  const whole = new Uint8Array(clusters * geometry.clusterSize);
  whole.set(area);
  await storage.write(host, whole, 'header');
  await tables.checkpoint();
  return host;
}

/** Where QEMU puts it: before the names of features. */
function withPointer(
  extensions: NewHeader['extensions'],
  offset: number,
  length: number,
): NewHeader['extensions'] {
  const { encryptionHeader: type, featureNameTable } = EXTENSION;
  const pointer = { type, data: encodeEncryptionHeader({ offset, length }) };
  const isName = (extension: { readonly type: number }) => extension.type === featureNameTable;
  return [
    ...extensions.filter((each) => !isName(each)),
    pointer,
    ...extensions.filter((each) => isName(each)),
  ];
}
