// From what users say of passphrases and encryption to what the engine takes.

import type { Secrets as EngineSecrets } from '../chain/secrets.ts';
import { HASHES, IVGENS, MODES } from '../qcow2/encryption/cipher-spec.ts';
import type { NewEncryption as EngineEncryption } from '../qcow2/encryption/encrypt-empty.ts';
import { checkChoice, checkCount } from './checks.ts';
import type { NewEncryption } from './encryption.ts';
import type { Secrets } from './secrets.ts';

function toBytes(secret: string | Uint8Array): Uint8Array {
  return typeof secret === 'string' ? new TextEncoder().encode(secret) : secret;
}

/** As the engine has them; nothing where there are none. */
export function secretsFor(secrets: Secrets | undefined): { readonly secrets?: EngineSecrets } {
  if (secrets === undefined) return {};
  const entries = Object.entries(secrets).map(([name, secret]) => [name, toBytes(secret)] as const);
  return { secrets: new Map(entries) };
}

const CIPHERS = ['aes-128', 'aes-192', 'aes-256'];

export function toEngine(encryption: NewEncryption): EngineEncryption {
  const { format, cipher = 'aes-256', mode = 'xts', ivgen = 'plain64' } = encryption;
  const { ivgenHash = 'sha256', hash = 'sha256', iterTime = 2000 } = encryption;
  checkChoice('format', format, ['luks', 'aes']);
  const passphrase = toBytes(encryption.passphrase);
  if (format === 'aes') return { format, passphrase };
  checkChoice('cipher', cipher, CIPHERS);
  checkChoice('mode', mode, MODES);
  checkChoice('ivgen', ivgen, IVGENS);
  checkChoice('ivgenHash', ivgenHash, HASHES);
  checkChoice('hash', hash, HASHES);
  checkCount('iterTime', iterTime);
  const spec = { cipher, mode, ivgen, ivgenHash: ivgen === 'essiv' ? ivgenHash : null, hash };
  return { format, passphrase, spec, iterTime };
}
