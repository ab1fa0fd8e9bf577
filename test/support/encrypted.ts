// Encrypted images for tests, made in no time: their key slots take as few iterations as can be.

import { nodeCodecs } from '../../src/io/codecs.ts';
import { nodeHost } from '../../src/io/node-host.ts';
import type { Storage } from '../../src/io/storage.ts';
import { type CreateOptions, createImage } from '../../src/qcow2/create.ts';
import type { CipherSpec } from '../../src/qcow2/encryption/cipher-spec.ts';
import type { NewEncryption } from '../../src/qcow2/encryption/encrypt-empty.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';

export const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

export const DEFAULT_SPEC: CipherSpec = {
  cipher: 'aes-256',
  mode: 'xts',
  ivgen: 'plain64',
  ivgenHash: null,
  hash: 'sha256',
};

export function luks(passphrase = 'geheim', spec: Partial<CipherSpec> = {}): NewEncryption {
  return {
    format: 'luks',
    passphrase: utf8(passphrase),
    spec: { ...DEFAULT_SPEC, ...spec },
    iterTime: 0,
  };
}

export function aes(passphrase = 'geheim'): NewEncryption {
  return { format: 'aes', passphrase: utf8(passphrase) };
}

/** Its clock makes any machine look slow enough at once. */
export function quickHost(): { readonly codecs: typeof nodeCodecs; now(): number } {
  let now = 0;
  return {
    codecs: nodeCodecs,
    now() {
      now += 1000;
      return now;
    },
  };
}

export function encryptedIn(storage: Storage, options: CreateOptions): Promise<Qcow2Image> {
  return createImage(storage, options, undefined, quickHost());
}

/** A file, closed; it must not be there yet. */
export async function encryptedFile(filename: string, options: CreateOptions): Promise<void> {
  const storage = await nodeHost.createStorage(filename);
  try {
    await (await encryptedIn(storage, options)).flush();
  } finally {
    await storage.close();
  }
}

export function openEncrypted(storage: Storage, passphrase = 'geheim'): Promise<Qcow2Image> {
  return Qcow2Image.open(storage, { codecs: nodeCodecs, passphrase: () => utf8(passphrase) });
}
