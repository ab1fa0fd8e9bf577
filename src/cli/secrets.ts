// `--object secret,id=...` and `tls-creds-x509`: passphrases for encrypted images and keys for NBD, with
// QEMU's words for what is wrong.

import { readFileSync } from 'node:fs';
import { type Secrets, secretText } from '../chain/secrets.ts';
import { errnoOf, ImageError, strerror } from '../errors.ts';
import type { TlsCredentials } from '../nbd/tls.ts';
import { type ParsedCredentials, type ParsedSecret, parseObject } from './object-option.ts';
import { collected } from './options.ts';

/** By name; a later one can be encrypted by an earlier one. */
type Known = Map<string, Uint8Array>;

const invalid = (message: string) => new ImageError('invalid', message);

/** For options that define an object; they may be repeated. */
export const objects = collected(parseObject);

/** What objects are there for. */
export interface Objects {
  readonly secrets: Secrets;
  readonly credentials: ReadonlyMap<string, TlsCredentials>;
}

/** What the `--object` options define. */
export async function readObjects(texts: readonly string[] = []): Promise<Objects> {
  const secrets: Known = new Map();
  const credentials = new Map<string, TlsCredentials>();
  const names = new Set<string>();
  for (const text of texts) {
    const parsed = parseObject(text);
    if (names.has(parsed.id)) {
      throw invalid(
        `attempt to add duplicate property '${parsed.id}' to object (type 'container')`,
      );
    }
    names.add(parsed.id);
    if (parsed.type === 'secret') secrets.set(parsed.id, await secretOf(parsed, secrets));
    else credentials.set(parsed.id, await credentialsOf(parsed, secrets));
  }
  return { secrets, credentials };
}

/** The passphrases alone. */
export async function readSecrets(texts?: readonly string[]): Promise<Secrets> {
  return (await readObjects(texts)).secrets;
}

async function credentialsOf(parsed: ParsedCredentials, secrets: Secrets): Promise<TlsCredentials> {
  const { passwordId } = parsed;
  const secret = passwordId === undefined ? undefined : secretText(passwordId, secrets);
  const { loadTlsCredentials } = await import('../nbd/tls-files.ts');
  return loadTlsCredentials({ ...parsed, passphrase: secret && new TextDecoder().decode(secret) });
}

async function secretOf(parsed: ParsedSecret, known: Known): Promise<Uint8Array> {
  const { format, keyid, iv } = parsed;
  const stored = load(parsed);
  if (keyid !== undefined) return await decrypt(stored, format, keyid, iv, known);
  return format === 'base64' ? fromBase64(stored) : stored;
}

function load({ data, file }: ParsedSecret): Uint8Array {
  if (data !== undefined && file !== undefined) {
    throw invalid("'file' and 'data' are mutually exclusive");
  }
  if (data !== undefined) return new TextEncoder().encode(data);
  if (file === undefined) throw invalid("Either 'file' or 'data' must be provided");
  try {
    return readFileSync(file);
  } catch (error) {
    const errno = errnoOf(error) ?? 'EIO';
    const failed = errno === 'EISDIR' ? 'Failed to read from file' : 'Failed to open file';
    throw invalid(`Unable to read ${file}: ${failed} “${file}”: ${strerror(errno)}`);
  }
}

/** Padding may be missing; what does not fill three bytes is left out then. */
function fromBase64(bytes: Uint8Array): Uint8Array {
  if (bytes.includes(0)) throw invalid('Base64 data contains embedded NUL characters');
  const text = new TextDecoder().decode(bytes);
  if (!/^[A-Za-z0-9+/=\n]*$/.test(text)) throw invalid('Base64 data contains invalid characters');
  const digits = text.replaceAll('\n', '');
  return Buffer.from(digits.slice(0, digits.length - (digits.length % 4)), 'base64');
}

const AES_BLOCK = 16;

/** The secret is encrypted by another one, with AES-256 in CBC mode. */
async function decrypt(
  stored: Uint8Array,
  format: string,
  keyid: string,
  iv: string | undefined,
  known: Known,
): Promise<Uint8Array> {
  const key = known.get(keyid);
  if (key === undefined) throw invalid(`No secret with id '${keyid}'`);
  if (key.length !== 32) throw invalid('Key should be 32 bytes in length');
  if (iv === undefined) throw invalid('IV is required to decrypt secret');
  const vector = fromBase64(new TextEncoder().encode(iv));
  if (vector.length !== AES_BLOCK) {
    throw invalid(`IV should be 16 bytes in length not ${vector.length}`);
  }
  const encrypted = format === 'base64' ? fromBase64(stored) : stored;
  if (encrypted.length % AES_BLOCK !== 0) {
    throw invalid(`Length ${encrypted.length} must be a multiple of block size 16`);
  }
  const { createDecipheriv } = await import('node:crypto');
  const cipher = createDecipheriv('aes-256-cbc', key, vector).setAutoPadding(false);
  const plain = cipher.update(encrypted);
  const padding = plain.at(-1) ?? 0;
  if (padding > AES_BLOCK || padding > plain.length) {
    throw invalid(`Incorrect number of padding bytes (${padding}) found on decrypted data`);
  }
  return plain.subarray(0, plain.length - padding);
}
