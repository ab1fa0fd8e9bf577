// TLS over a stream that is open already: certificates of X.509, both sides.

import type { Duplex } from 'node:stream';
import * as tls from 'node:tls';
import { ImageError } from '../errors.ts';
import type { StartTls } from './negotiation.ts';

/** PEM texts. */
export interface TlsCredentials {
  readonly endpoint: 'server' | 'client';
  /** Of who signs certificates. */
  readonly ca: Uint8Array | undefined;
  /** Certificates that no longer count. */
  readonly crl?: Uint8Array | undefined;
  readonly cert: Uint8Array | undefined;
  readonly key: Uint8Array | undefined;
  readonly passphrase?: string;
  /** Refuses a peer whose certificate is not signed by `ca`. */
  readonly verifyPeer: boolean;
}

function common({ ca, crl, cert, key, passphrase, verifyPeer }: TlsCredentials) {
  return {
    minVersion: 'TLSv1.2',
    rejectUnauthorized: verifyPeer,
    ...(ca !== undefined && { ca: Buffer.from(ca) }),
    ...(crl !== undefined && { crl: Buffer.from(crl) }),
    ...(cert !== undefined && { cert: Buffer.from(cert) }),
    ...(key !== undefined && { key: Buffer.from(key) }),
    ...(passphrase !== undefined && { passphrase }),
  } as const;
}

/** Throws `invalid` where the credentials make no sense. */
export function serverTls(credentials: TlsCredentials): StartTls {
  const options = { ...common(credentials), requestCert: credentials.verifyPeer };
  try {
    tls.createSecureContext(options);
  } catch (error) {
    throw new ImageError('invalid', `Unable to use the TLS credentials: ${messageOf(error)}`);
  }
  return (stream) => {
    // A client that ends before it is known is gone, and not half of it.
    stream.allowHalfOpen = false;
    // One for each, so that it is known whose connection came out of it.
    const server = tls.createServer(options);
    return new Promise<Duplex>((resolve, reject) => {
      server.once('secureConnection', resolve);
      server.once('tlsClientError', reject);
      stream.once('close', () => reject(new Error('the connection ended')));
      server.emit('connection', stream);
    });
  };
}

/** `hostname`: what the server's certificate has to be for, where it is verified. */
export function clientTls(credentials: TlsCredentials, hostname: string | undefined): StartTls {
  return (stream) =>
    new Promise<Duplex>((resolve, reject) => {
      if (hostname === undefined && credentials.verifyPeer) {
        throw failed('No hostname for certificate validation');
      }
      const isName = hostname !== undefined && !/^[\d.]+$|:/.test(hostname);
      const socket = tls.connect({
        ...common(credentials),
        socket: stream,
        ...(isName && { servername: hostname }),
        checkServerIdentity: (_name, certificate) => {
          const differs = tls.checkServerIdentity(hostname ?? '', certificate);
          return differs && failed(`Certificate does not match the hostname ${hostname}`);
        },
      });
      socket.once('secureConnect', () => resolve(socket));
      socket.once('error', (error) => reject(tlsError(error)));
    });
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

function failed(message: string, cause?: unknown): ImageError {
  return new ImageError('io', message, { cause, errno: 'EIO' });
}

function tlsError(error: unknown): ImageError {
  if (error instanceof ImageError) return error;
  return failed(`TLS handshake failed: ${messageOf(error)}`, error);
}
