// What a new image is encrypted with, as users of the library say it.

import type { HashName } from '../io/host.ts';
import { HASHES, IVGENS, MODES } from '../qcow2/encryption/cipher-spec.ts';
import type { NewEncryption as EngineEncryption } from '../qcow2/encryption/encrypt-empty.ts';
import { checkChoice, checkCount } from './checks.ts';
import { toBytes } from './secrets.ts';

/** What a new image is encrypted with. Defaults are QEMU's. Source: QEMU's QCryptoBlockCreateOptions. */
export interface NewEncryption {
  /** `aes`, the old form, is weak: for programs that know no other. */
  readonly format: 'luks' | 'aes';
  /** As text, or as bytes of UTF-8. */
  readonly passphrase: string | Uint8Array;
  /** `luks` only. Default `aes-256`. */
  readonly cipher?: 'aes-128' | 'aes-192' | 'aes-256';
  /** `luks` only. Default `xts`. */
  readonly mode?: 'xts' | 'cbc' | 'ctr' | 'ecb';
  /** How sectors get their initial vectors; `luks` only. Default `plain64`. */
  readonly ivgen?: 'plain' | 'plain64' | 'essiv';
  /** For `essiv` alone. Default `sha256`. */
  readonly ivgenHash?: HashName;
  /** For the passphrase; `luks` only. Default `sha256`. */
  readonly hash?: HashName;
  /** Milliseconds that opening takes on a machine like this; `luks` only. Default 2000. */
  readonly iterTime?: number;
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
