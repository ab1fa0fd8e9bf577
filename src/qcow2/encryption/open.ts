// The encryption of an image as its header tells it, and its data store once there is a passphrase.

import { ImageError } from '../../errors.ts';
import type { Codecs, Crypto } from '../../io/host.ts';
import type { Storage } from '../../io/storage.ts';
import { findExtension, parseEncryptionHeader } from '../extensions.ts';
import type { Header } from '../header.ts';
import { CRYPT_LUKS, CRYPT_NONE, EXTENSION } from '../spec.ts';
import { sectorCipher } from './cipher-spec.ts';
import type { DataKey } from './encrypted-data.ts';
import { plain64 } from './initial-vectors.ts';
import { masterKey } from './key-slots.ts';
import { LUKS_HEADER_BYTES, type LuksHeader, parseLuksHeader } from './luks-header.ts';
import { cbc, type SectorCipher } from './modes.ts';

/** What the header says of it, without a passphrase. */
export type Encryption =
  | { readonly format: 'aes' }
  | { readonly format: 'luks'; readonly luks: Luks | null };

interface Luks {
  readonly header: LuksHeader;
  readonly area: Area;
}

/** Where the LUKS header and its key material lie in the file. */
interface Area {
  readonly offset: number;
  readonly length: number;
}

const corrupt = (message: string) => new ImageError('corrupt', message);

/** Null for an image that is not encrypted. Throws QEMU's words for a header that can't be true. */
export async function readEncryption(storage: Storage, header: Header): Promise<Encryption | null> {
  const { cryptMethod, extensions, clusterBits } = header;
  const pointer = findExtension(extensions, EXTENSION.encryptionHeader);
  if (pointer !== undefined && cryptMethod !== CRYPT_LUKS) {
    throw corrupt('CRYPTO header extension only expected with LUKS encryption method');
  }
  if (cryptMethod === CRYPT_NONE) return null;
  if (cryptMethod !== CRYPT_LUKS) return { format: 'aes' };
  // Like QEMU, we miss it only where we have to read data.
  if (pointer === undefined) return { format: 'luks', luks: null };
  const area = parseEncryptionHeader(pointer);
  const clusterSize = 2 ** clusterBits;
  if (area.offset % clusterSize !== 0) {
    throw corrupt(
      `Encryption header offset '${area.offset}' is not a multiple of cluster size '${clusterSize}'`,
    );
  }
  const bytes = await readArea(storage, area, 0, LUKS_HEADER_BYTES);
  return { format: 'luks', luks: { header: parseLuksHeader(bytes), area } };
}

async function readArea(
  storage: Storage,
  area: Area,
  offset: number,
  length: number,
): Promise<Uint8Array> {
  if (offset + length > area.length) throw corrupt('Request for data outside of extension header');
  const bytes = new Uint8Array(length);
  await storage.read(area.offset + offset, bytes);
  return bytes;
}

/** Throws `invalid` for a wrong passphrase. */
export async function unlock(
  storage: Storage,
  encryption: Encryption,
  passphrase: Uint8Array,
  codecs: Codecs | undefined,
): Promise<DataKey> {
  const crypto = await codecs?.loadCrypto?.();
  if (crypto === undefined) throw new ImageError('unsupported', 'The host has no cryptography');
  if (encryption.format === 'aes') {
    // Whoever knows no better passphrase reads nonsense: nothing tells.
    return { cipher: legacyCipher(crypto, passphrase), numbers: 'guest' };
  }
  if (encryption.luks === null) throw corrupt('Missing CRYPTO header for crypt method 2');
  const { header, area } = encryption.luks;
  const key = await masterKey(crypto, header, passphrase, (offset, length) =>
    readArea(storage, area, offset, length),
  );
  return { cipher: sectorCipher(crypto, header.spec, key), numbers: 'host' };
}

/** The key is the passphrase itself, cut or filled with zeros. */
function legacyCipher(crypto: Crypto, passphrase: Uint8Array): SectorCipher {
  const key = new Uint8Array(16);
  key.set(passphrase.subarray(0, key.length));
  return cbc({ encrypt: crypto.aes(key, 'encrypt'), decrypt: crypto.aes(key, 'decrypt') }, plain64);
}
