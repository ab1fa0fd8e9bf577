// Certificates and keys out of a directory, by the names that QEMU gives them.

import { readFileSync } from 'node:fs';
import { errnoOf, ImageError, strerror } from '../errors.ts';
import type { TlsCredentials } from './tls.ts';

export interface TlsDirectory {
  readonly dir: string | undefined;
  readonly endpoint: 'server' | 'client';
  /** Refuses a peer whose certificate is not signed by the directory's authority. */
  readonly verifyPeer: boolean;
  /** Of the private key. */
  readonly passphrase?: string | undefined;
}

/** Throws `invalid`. A client needs no certificate of its own. */
export function loadTlsCredentials(from: TlsDirectory): TlsCredentials {
  const { dir, endpoint, verifyPeer, passphrase } = from;
  if (dir === undefined) throw new ImageError('invalid', "Missing 'dir' property value");
  const isServer = endpoint === 'server';
  const ca = readPem(dir, 'ca-cert.pem', true);
  const crl = isServer ? readPem(dir, 'ca-crl.pem', false) : undefined;
  const cert = readPem(dir, `${endpoint}-cert.pem`, isServer);
  const key = readPem(dir, `${endpoint}-key.pem`, isServer);
  return {
    endpoint,
    verifyPeer,
    ca,
    crl,
    cert,
    key,
    ...(passphrase !== undefined && { passphrase }),
  };
}

function readPem(dir: string, name: string, required: boolean): Uint8Array | undefined {
  const file = `${dir}/${name}`;
  try {
    return readFileSync(file);
  } catch (error) {
    const errno = errnoOf(error) ?? 'EIO';
    if (errno === 'ENOENT' && !required) return undefined;
    throw new ImageError('invalid', `Unable to access credentials ${file}: ${strerror(errno)}`, {
      cause: error,
      errno,
    });
  }
}
