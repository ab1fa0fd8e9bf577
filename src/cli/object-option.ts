// `--object TYPE,id=...`: what an object is to be, by QEMU's rules and in its words. Nothing is read here.

import { ImageError } from '../errors.ts';
import { type JsonValue, parseJson } from '../json/parser.ts';
import { splitOnce, splitOptions } from './option-list.ts';

type Members = Map<string, JsonValue>;

const invalid = (message: string) => new ImageError('invalid', message);

/** A passphrase, still as it was given. */
export interface ParsedSecret {
  readonly type: 'secret';
  readonly id: string;
  readonly format: 'raw' | 'base64';
  readonly keyid: string | undefined;
  readonly iv: string | undefined;
  readonly data: string | undefined;
  readonly file: string | undefined;
}

/** Certificates and keys for TLS, in a directory. */
export interface ParsedCredentials {
  readonly type: 'tls-creds-x509';
  readonly id: string;
  readonly dir: string | undefined;
  readonly endpoint: 'server' | 'client';
  readonly verifyPeer: boolean;
  /** Name of the secret that the key is encrypted with. */
  readonly passwordId: string | undefined;
}

export type ParsedObject = ParsedSecret | ParsedCredentials;

const TEXTS = ['keyid', 'iv', 'data', 'file'] as const;

export function parseObject(text: string): ParsedObject {
  const members = text.startsWith('{') ? fromJson(text) : fromOptions(text);
  const type = takeText(members, 'qom-type');
  if (type === undefined) throw invalid("Parameter 'qom-type' is missing");
  if (type === 'secret_keyring') {
    throw new ImageError('unsupported', `The object type '${type}' is not supported`);
  }
  if (type !== 'secret' && type !== 'tls-creds-x509') {
    throw invalid(`Parameter 'qom-type' does not accept value '${type}'`);
  }
  const id = takeText(members, 'id');
  if (id === undefined) throw invalid("Parameter 'id' is missing");
  return type === 'secret' ? parseSecret(id, members) : parseCredentials(id, members);
}

function parseSecret(id: string, members: Members): ParsedSecret {
  const loaded = takeLoaded(members);
  const format = takeText(members, 'format') ?? 'raw';
  if (format !== 'raw' && format !== 'base64') {
    throw invalid(`Parameter 'format' does not accept value '${format}'`);
  }
  const [keyid, iv, data, file] = TEXTS.map((name) => takeText(members, name));
  checkRest(id, members);
  if (loaded) throw invalid("Property 'secret.loaded' is not writable");
  return { type: 'secret', id, format, keyid, iv, data, file };
}

function parseCredentials(id: string, members: Members): ParsedCredentials {
  const loaded = takeLoaded(members);
  const dir = takeText(members, 'dir');
  const endpoint = takeText(members, 'endpoint') ?? 'client';
  if (endpoint !== 'server' && endpoint !== 'client') {
    throw invalid(`Parameter 'endpoint' does not accept value '${endpoint}'`);
  }
  const verifyPeer = takeBool(members, 'verify-peer') ?? true;
  const passwordId = takeText(members, 'passwordid');
  // Hints for a library that we do not have.
  takeText(members, 'priority');
  takeBool(members, 'sanity-check');
  checkRest(id, members);
  if (loaded) throw invalid("Property 'tls-creds-x509.loaded' is not writable");
  return { type: 'tls-creds-x509', id, dir, endpoint, verifyPeer, passwordId };
}

function checkRest(id: string, members: Members): void {
  const [unexpected] = members.keys();
  if (unexpected !== undefined) throw invalid(`Parameter '${unexpected}' is unexpected`);
  if (!/^[a-z][a-z0-9._-]*$/i.test(id)) {
    throw invalid(
      "Parameter 'id' expects an identifier\n" +
        "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
    );
  }
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

/** True where it was given at all: nobody may say that an object is loaded. */
function takeLoaded(members: Members): boolean {
  return takeBool(members, 'loaded') !== undefined;
}

function takeBool(members: Members, name: string): boolean | undefined {
  const value = members.get(name);
  members.delete(name);
  if (value === undefined || typeof value === 'boolean') return value;
  if (typeof value === 'string' && /^(on|yes|true|y)$/.test(value)) return true;
  if (typeof value === 'string' && /^(off|no|false|n)$/.test(value)) return false;
  throw invalid(`Parameter '${name}' expects 'on' or 'off'`);
}
