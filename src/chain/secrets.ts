// Passphrases for encrypted images, and what a description says of encryption beside what the header
// says. Words as in QEMU.

import { ImageError } from '../errors.ts';
import type { Header } from '../qcow2/header.ts';
import { CRYPT_LUKS, CRYPT_NONE } from '../qcow2/spec.ts';
import { keyRequired } from '../qcow2/support.ts';
import type { EncryptOptions } from './node-options.ts';

/** Passphrases by name, as bytes. */
export type Secrets = ReadonlyMap<string, Uint8Array>;

const invalid = (message: string) => new ImageError('invalid', message);

/** Throws where the options do not fit the header. */
export function checkEncryptOptions(
  { cryptMethod }: Header,
  { format, unknown }: EncryptOptions,
): void {
  if (cryptMethod === CRYPT_NONE) {
    if (format === undefined) return;
    throw invalid(`No encryption in image header, but options specified format '${format}'`);
  }
  const stored = cryptMethod === CRYPT_LUKS ? 'luks' : 'aes';
  if (format !== undefined && format !== stored) {
    throw invalid(`Header reported '${stored}' encryption format but options specify '${format}'`);
  }
  if (unknown !== undefined) throw invalid(`Parameter '${unknown}' is unexpected`);
}

/** Undefined for an image that is not encrypted. */
export function passphraseOf(
  { cryptMethod }: Header,
  { keySecret }: EncryptOptions,
  secrets: Secrets | undefined,
): Uint8Array | undefined {
  if (cryptMethod === CRYPT_NONE) return undefined;
  if (keySecret === undefined) throw keyRequired();
  return secretText(keySecret, secrets);
}

/** A passphrase is text. */
export function secretText(id: string, secrets: Secrets | undefined): Uint8Array {
  const secret = secrets?.get(id);
  if (secret === undefined) throw invalid(`No secret with id '${id}'`);
  if (!isText(secret)) throw invalid(`Data from secret ${id} is not valid UTF-8`);
  return secret;
}

function isText(bytes: Uint8Array): boolean {
  if (bytes.includes(0)) return false;
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}
