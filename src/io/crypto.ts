// The cryptographic primitives of encrypted images, by node:crypto. Loaded for those alone.

import * as crypto from 'node:crypto';
import { promisify } from 'node:util';
import type { BlockCipher, Crypto, HashName } from './host.ts';

const pbkdf2 = promisify(crypto.pbkdf2);

export const nodeCrypto: Crypto = {
  aes(key, direction): BlockCipher {
    const algorithm = `aes-${key.length * 8}-ecb`;
    const cipher =
      direction === 'encrypt'
        ? crypto.createCipheriv(algorithm, key, null)
        : crypto.createDecipheriv(algorithm, key, null);
    // Blocks do not depend on each other, so that one object serves for all of them.
    cipher.setAutoPadding(false);
    return (blocks) => cipher.update(blocks);
  },

  hash: (name: HashName, bytes) => crypto.createHash(name).update(bytes).digest(),

  pbkdf2: (name, password, salt, iterations, length) =>
    pbkdf2(password, salt, iterations, length, name),

  randomBytes: (length) => crypto.randomBytes(length),
};
