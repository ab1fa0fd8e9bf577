// From the encrypt.* options of `create` to the encryption that they describe, with QEMU's words.

import type { Secrets } from '../chain/secrets.ts';
import { secretText } from '../chain/secrets.ts';
import { ImageError } from '../errors.ts';
import { type CipherSpec, HASHES, IVGENS, MODES } from '../qcow2/encryption/cipher-spec.ts';
import type { NewEncryption } from '../qcow2/encryption/encrypt-empty.ts';
import { keyRequired } from '../qcow2/support.ts';
import { type Fail, isOn } from './create-options.ts';

type Options = ReadonlyMap<string, string>;

const PREFIX = 'encrypt.';
const CIPHERS = (
  'aes-128 aes-192 aes-256 des 3des cast5-128 serpent-128 serpent-192 serpent-256 ' +
  'twofish-128 twofish-192 twofish-256'
).split(' ');
/** In QEMU's order. */
const WORDS: Readonly<Record<string, readonly string[]>> = {
  'cipher-alg': CIPHERS,
  'cipher-mode': MODES,
  'ivgen-alg': IVGENS,
  'ivgen-hash-alg': HASHES,
  'hash-alg': HASHES,
};
/** The names of ciphers that QEMU knows, but LUKS does not. */
const NOT_IN_LUKS: readonly string[] = ['des', '3des'];
const DEFAULT_ITER_TIME = 2000;

/** The words alone: each value is one that QEMU knows. */
export function checkEncryptionWords(options: Options, fail: Fail): void {
  const given = [...options.keys()].filter((name) => name.startsWith(PREFIX));
  const legacy = isOn(options, 'encryption');
  const format = options.get('encrypt.format');
  if (format === undefined) {
    if (given.length > 0 && !legacy) throw fail("Parameter 'encrypt.format' is missing");
  } else if (format !== 'aes' && format !== 'luks') {
    throw fail(`Parameter 'format' does not accept value '${format}'`);
  }
  if (format === 'luks') {
    for (const [name, words] of Object.entries(WORDS)) {
      const value = options.get(PREFIX + name);
      if (value === undefined || words.includes(value)) continue;
      throw fail(`Parameter '${name}' does not accept value '${value}'`);
    }
    return;
  }
  const known = ['encrypt.format', 'encrypt.key-secret'];
  const unexpected = given.find((name) => !known.includes(name));
  if (unexpected !== undefined) throw fail(`Parameter '${unexpected}' is unexpected`);
}

/** QEMU looks at these before any word. */
export function checkEncryptionAlias(options: Options, fail: Fail): void {
  if (!isOn(options, 'encryption') || !options.has('encrypt.format')) return;
  throw fail("'encrypt.format' and its alias 'encryption' can't be used at the same time");
}

/** Undefined where no encryption is asked for. */
export function toEncryption(
  options: Options,
  secrets: Secrets,
  fail: Fail,
): NewEncryption | undefined {
  const format = isOn(options, 'encryption') ? 'aes' : options.get('encrypt.format');
  if (format === undefined) return undefined;
  try {
    const passphrase = passphraseOf(options, secrets);
    if (format === 'aes') return { format, passphrase };
    const iterTime = Number(options.get('encrypt.iter-time') ?? DEFAULT_ITER_TIME);
    return { format: 'luks', passphrase, spec: specOf(options), iterTime };
  } catch (error) {
    throw error instanceof ImageError ? fail(error.message) : error;
  }
}

function passphraseOf(options: Options, secrets: Secrets): Uint8Array {
  const id = options.get('encrypt.key-secret');
  if (id !== undefined) return secretText(id, secrets);
  throw keyRequired();
}

function specOf(options: Options): CipherSpec {
  const word = <T extends string>(name: string, otherwise: T): T =>
    (options.get(PREFIX + name) ?? otherwise) as T;
  const cipher = word('cipher-alg', 'aes-256');
  if (NOT_IN_LUKS.includes(cipher)) {
    throw new ImageError('unsupported', `Algorithm '${cipher}' not supported`);
  }
  const ivgen = word<CipherSpec['ivgen']>('ivgen-alg', 'plain64');
  const ivgenHash = word<NonNullable<CipherSpec['ivgenHash']>>('ivgen-hash-alg', 'sha256');
  return {
    cipher,
    mode: word<CipherSpec['mode']>('cipher-mode', 'xts'),
    ivgen,
    ivgenHash: ivgen === 'essiv' ? ivgenHash : null,
    hash: word<CipherSpec['hash']>('hash-alg', 'sha256'),
  };
}
