// What a new image is encrypted with, as users of the library say it.

import type { HashName } from '../io/host.ts';

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
