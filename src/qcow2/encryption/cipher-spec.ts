// What an image is encrypted with, by the names of QEMU and dm-crypt: names in, a cipher out.

import { ImageError } from '../../errors.ts';
import type { Crypto, HashName } from '../../io/host.ts';
import { SECTOR } from '../../units.ts';
import { essiv, type InitialVectors, plain, plain64 } from './initial-vectors.ts';
import { cbc, ctr, ecb, type SectorCipher, xts } from './modes.ts';

/** By QEMU's names. */
export interface CipherSpec {
  /** With the size of its key in bits, as in `aes-256`. */
  readonly cipher: string;
  readonly mode: Mode;
  readonly ivgen: IvGen;
  /** `essiv` alone uses one. */
  readonly ivgenHash: HashName | null;
  /** For keys made of passphrases, and the anti-forensic splitter. */
  readonly hash: HashName;
}

export const MODES = ['ecb', 'cbc', 'xts', 'ctr'] as const;
export type Mode = (typeof MODES)[number];
export const IVGENS = ['plain', 'plain64', 'essiv'] as const;
export type IvGen = (typeof IVGENS)[number];

export const DIGEST_BYTES: Readonly<Record<HashName, number>> = {
  md5: 16,
  sha1: 20,
  sha224: 28,
  sha256: 32,
  sha384: 48,
  sha512: 64,
  ripemd160: 20,
};
export const HASHES = Object.keys(DIGEST_BYTES) as readonly HashName[];

/** Keys in bytes of the ciphers that LUKS names; we have AES alone. */
const CIPHERS: Readonly<Record<string, readonly number[]>> = {
  aes: [16, 24, 32],
  cast5: [16],
  serpent: [16, 24, 32],
  twofish: [16, 24, 32],
};

const unsupported = (message: string) => new ImageError('unsupported', message);

/** `names`: as in `aes`, `cbc-essiv:sha256`, `sha1`. Throws QEMU's words for what it does not know. */
export function parseCipherSpec(
  cipherName: string,
  modeText: string,
  hashName: string,
  keyBytes: number,
): CipherSpec {
  const match = /^([^-]*)-([^:]*)(?::(.*))?$/s.exec(modeText);
  if (match === null) {
    throw new ImageError('corrupt', `Unexpected cipher mode string format '${modeText}'`);
  }
  const [, modeName = '', ivgenName = '', ivgenHashName] = match;
  const given = ivgenHashName === undefined ? null : known(HASHES, ivgenHashName, 'Hash algorithm');
  const mode = known(MODES, modeName, 'Cipher mode');
  const ownBytes = mode === 'xts' ? Math.floor(keyBytes / 2) : keyBytes;
  if (!CIPHERS[cipherName]?.includes(ownBytes)) {
    throw unsupported(`Algorithm '${cipherName}' with key size ${ownBytes} bytes not supported`);
  }
  const hash = known(HASHES, hashName, 'Hash algorithm');
  const ivgen = known(IVGENS, ivgenName, 'IV generator');
  // Others are told a hash for nothing.
  const ivgenHash = ivgen === 'essiv' ? given : null;
  const spec = { cipher: `${cipherName}-${ownBytes * 8}`, mode, ivgen, ivgenHash, hash };
  checkEssiv(spec);
  return spec;
}

function known<T extends string>(words: readonly T[], word: string, what: string): T {
  const found = words.find((each) => each === word);
  if (found === undefined) throw unsupported(`${what} '${word}' not supported`);
  return found;
}

/** It encrypts by a key that has the length of the digest. */
export function checkEssiv({ cipher, ivgen, ivgenHash }: CipherSpec): void {
  if (ivgen !== 'essiv') return;
  if (ivgenHash === null) {
    throw new ImageError('corrupt', 'Missing IV generator hash specification');
  }
  const name = cipher.replace(/-.*/, '');
  if (name === 'cast5') throw unsupported(`Cipher ${cipher} not supported with essiv`);
  const bytes = DIGEST_BYTES[ivgenHash];
  if (CIPHERS[name]?.includes(bytes)) return;
  const title = name === 'aes' ? 'AES' : `${name[0]?.toUpperCase()}${name.slice(1)}`;
  throw unsupported(`No ${title} cipher with key size ${bytes} available`);
}

/** Bytes of the key that data is encrypted with: XTS has two. */
export function keyBytesOf({ cipher, mode }: CipherSpec): number {
  return (Number(cipher.replace(/^.*-/, '')) / 8) * (mode === 'xts' ? 2 : 1);
}

/** Throws for what is valid but not known here. */
export function checkCipher(spec: CipherSpec): void {
  if (spec.cipher.startsWith('aes-')) return;
  throw unsupported(`The cipher '${spec.cipher}' is not supported`);
}

/** The cipher for sectors, by a key of the right length. */
export function sectorCipher(crypto: Crypto, spec: CipherSpec, key: Uint8Array): SectorCipher {
  checkCipher(spec);
  const own = spec.mode === 'xts' ? key.subarray(0, key.length / 2) : key;
  const blocks = { encrypt: crypto.aes(own, 'encrypt'), decrypt: crypto.aes(own, 'decrypt') };
  const vectors = vectorsOf(crypto, spec, key);
  switch (spec.mode) {
    case 'ecb':
      return ecb(blocks);
    case 'cbc':
      return cbc(blocks, vectors);
    case 'ctr':
      return ctr(blocks.encrypt, vectors);
    case 'xts':
      return xts(blocks, crypto.aes(key.subarray(key.length / 2), 'encrypt'), vectors);
  }
}

function vectorsOf(crypto: Crypto, spec: CipherSpec, key: Uint8Array): InitialVectors {
  if (spec.ivgen === 'plain') return plain;
  if (spec.ivgen === 'plain64' || spec.ivgenHash === null) return plain64;
  return essiv(crypto.aes(crypto.hash(spec.ivgenHash, key), 'encrypt'));
}

/** Key material is encrypted in whole sectors. */
export function fillsSectors(bytes: number): boolean {
  return bytes % SECTOR === 0;
}
