// This machine, with the NBD servers that it reaches.

import { ImageError } from '../errors.ts';
import type { Host, NbdTarget } from '../io/host.ts';
import { nodeHost as thisMachine } from '../io/node-host.ts';
import type { StartTls } from './negotiation.ts';
import type { TlsCredentials } from './tls.ts';

/** Credentials by the names that `tls-creds` gives them. */
export type TlsCredentialsByName = ReadonlyMap<string, TlsCredentials>;

/** `host`, which then opens exports of NBD servers, too; `credentials` is asked for when needed. */
export function withNbd(
  host: Host,
  credentials: () => Promise<TlsCredentialsByName> = async () => new Map(),
): Host {
  return {
    ...host,
    async openNbd(target, { writable }) {
      // Seldom needed: most commands do without.
      const { openNbd } = await import('./open.ts');
      const { tlsCreds } = target;
      const startTls = tlsCreds && (await clientOf(target, await credentials()));
      return await openNbd(target, { writable, host, ...(startTls && { startTls }) });
    },
  };
}

async function clientOf(
  { tlsCreds = '', tlsHostname, server }: NbdTarget,
  credentials: TlsCredentialsByName,
): Promise<StartTls> {
  const found = credentials.get(tlsCreds);
  if (found === undefined) {
    throw new ImageError('invalid', `No TLS credentials with id '${tlsCreds}'`);
  }
  if (found.endpoint !== 'client') {
    throw new ImageError('invalid', 'Expecting TLS credentials with a client endpoint');
  }
  const { clientTls } = await import('./tls.ts');
  return clientTls(found, tlsHostname ?? (server.type === 'inet' ? server.host : undefined));
}

export const nodeHost: Host = withNbd(thisMachine);
