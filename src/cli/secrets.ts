// `--object secret,id=...`: passphrases for encrypted images, with QEMU's words for what is wrong.

import { readFileSync } from 'node:fs';
import type { Secrets } from '../chain/secrets.ts';
import { errnoOf, ImageError, strerror } from '../errors.ts';
import { type JsonValue, parseJson } from '../json/parser.ts';
import { splitOnce, splitOptions } from './option-list.ts';
import { collected } from './options.ts';

type Members = Map<string, JsonValue>;
/** By name; a later one can be encrypted by an earlier one. */
type Known = Map<string, Uint8Array>;

const invalid = (message: string) => new ImageError('invalid', message);

/** For options that define an object; they may be repeated. */
export const objects = collected(parseObject);

/** What the `--object` options define; only secrets are known. */
export async function readSecrets(texts: readonly string[] = []): Promise<Secrets> {
  const known: Known = new Map();
  for (const text of texts) {
    const parsed = parseObject(text);
    if (known.has(parsed.id)) {
      throw invalid(
        `attempt to add duplicate property '${parsed.id}' to object (type 'container')`,
      );
    }
    known.set(parsed.id, await secretOf(parsed, known));
  }
  return known;
}

interface ParsedSecret {
  readonly id: string;
  readonly format: 'raw' | 'base64';
  readonly keyid: string | undefined;
  readonly iv: string | undefined;
  readonly data: string | undefined;
  readonly file: string | undefined;
}

const TEXTS = ['keyid', 'iv', 'data', 'file'] as const;

function parseObject(text: string): ParsedSecret {
  const members = text.startsWith('{') ? fromJson(text) : fromOptions(text);
  const type = takeText(members, 'qom-type');
  if (type === undefined) throw invalid("Parameter 'qom-type' is missing");
  if (type === 'secret_keyring') {
    throw new ImageError('unsupported', `The object type '${type}' is not supported`);
  }
  if (type !== 'secret') {
    throw invalid(`Parameter 'qom-type' does not accept value '${type}'`);
  }
  const id = takeText(members, 'id');
  if (id === undefined) throw invalid("Parameter 'id' is missing");
  const loaded = takeLoaded(members);
  const format = takeText(members, 'format') ?? 'raw';
  if (format !== 'raw' && format !== 'base64') {
    throw invalid(`Parameter 'format' does not accept value '${format}'`);
  }
  const [keyid, iv, data, file] = TEXTS.map((name) => takeText(members, name));
  const [unexpected] = members.keys();
  if (unexpected !== undefined) throw invalid(`Parameter '${unexpected}' is unexpected`);
  if (!/^[a-z][a-z0-9._-]*$/i.test(id)) {
    throw invalid(
      "Parameter 'id' expects an identifier\n" +
        "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
    );
  }
  if (loaded) throw invalid("Property 'secret.loaded' is not writable");
  return { id, format, keyid, iv, data, file };
}

async function secretOf(parsed: ParsedSecret, known: Known): Promise<Uint8Array> {
  const { format, keyid, iv } = parsed;
  const stored = load(parsed);
  if (keyid !== undefined) return await decrypt(stored, format, keyid, iv, known);
  return format === 'base64' ? fromBase64(stored) : stored;
}

function fromOptions(text: string): Members {
  const members: Members = new Map();
  // Doubled commas count in values alone.
  if (/^[^,=]*,,/.test(text)) throw invalid("Invalid parameter ''");
  for (const [i, member] of splitOptions(text).entries()) {
    if (member.includes('=')) {
      const [name, value] = splitOnce(member, '=');
      if (name === '') throw invalid("Invalid parameter ''");
      members.set(name, value);
    } else if (i > 0) throw invalid(`Expected '=' after parameter '${member}'`);
    else if (member !== '') members.set('qom-type', member);
    else if (text !== '') throw invalid("Invalid parameter ''");
  }
  return members;
}

function fromJson(text: string): Members {
  return new Map(Object.entries(parseJson(text) as { readonly [name: string]: JsonValue }));
}

function takeText(members: Members, name: string): string | undefined {
  const value = members.get(name);
  members.delete(name);
  if (value === undefined || typeof value === 'string') return value;
  throw invalid(`Invalid parameter type for '${name}', expected: string`);
}

/** True where it was given at all: nobody may say that a secret is loaded. */
function takeLoaded(members: Members): boolean {
  const value = members.get('loaded');
  members.delete('loaded');
  if (value === undefined || typeof value === 'boolean') return value !== undefined;
  if (typeof value === 'string' && /^(on|off|yes|no|true|false|y|n)$/.test(value)) return true;
  throw invalid("Parameter 'loaded' expects 'on' or 'off'");
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
