// This machine, with the NBD servers that it reaches.

import { ImageError } from '../errors.ts';
import type { Host, NbdTarget } from '../io/host.ts';
import { patientHost as patientMachine, nodeHost as thisMachine } from '../io/node-host.ts';
import type { StartTls } from './negotiation.ts';
import type { TlsCredentials } from './tls.ts';

/** The credentials of a name; rejects with `invalid` where there are none. */
export type FindCredentials = (id: string) => Promise<TlsCredentials>;

export function noCredentials(id: string): ImageError {
  return new ImageError('invalid', `No TLS credentials with id '${id}'`);
}

/** `host`, a plain object, which then opens exports of NBD servers, too. */
export function withNbd(
  host: Host,
  find: FindCredentials = async (id) => Promise.reject(noCredentials(id)),
): Host {
  return {
    ...host,
    async openNbd(target, { writable }) {
      // Seldom needed: most commands do without.
      const { openNbd } = await import('./open.ts');
      const { tlsCreds, tls } = target;
      if (tlsCreds === undefined && tls === undefined) {
        return await openNbd(target, { writable, host });
      }
      const credentials = tlsCreds === undefined ? await unnamed(tls) : await find(tlsCreds);
      const startTls = await clientOf(target, credentials);
      return await openNbd(target, { writable, host, startTls });
    },
  };
}

async function unnamed({ certificates }: NbdTarget['tls'] = {}): Promise<TlsCredentials> {
  const about = { endpoint: 'client', verifyPeer: true } as const;
  if (certificates === undefined)
    return { ...about, ca: undefined, cert: undefined, key: undefined };
  const { loadTlsCredentials } = await import('./tls-files.ts');
  return loadTlsCredentials({ ...about, dir: certificates });
}

async function clientOf(
  { tlsHostname, server }: NbdTarget,
  credentials: TlsCredentials,
): Promise<StartTls> {
  if (credentials.endpoint !== 'client') {
    throw new ImageError('invalid', 'Expected TLS credentials for a client endpoint');
  }
  const { clientTls } = await import('./tls.ts');
  return clientTls(credentials, tlsHostname ?? (server.type === 'inet' ? server.host : undefined));
}

export const nodeHost: Host = withNbd(thisMachine);

/** For commands that read headers and tables, one after the other, and do nothing else meanwhile. */
export const patientHost: Host = withNbd(patientMachine);
