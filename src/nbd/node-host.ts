// This machine, with the NBD servers that it reaches.

import { ImageError } from '../errors.ts';
import type { Host } from '../io/host.ts';
import { nodeHost as thisMachine } from '../io/node-host.ts';
import type { TlsCredentials } from './tls.ts';

/** Credentials by the names that `tls-creds` gives them. */
export type TlsCredentialsByName = ReadonlyMap<string, TlsCredentials>;

/** `host`, which then opens exports of NBD servers, too. */
export function withNbd(host: Host, credentials: TlsCredentialsByName = new Map()): Host {
  return {
    ...host,
    async openNbd(target, { writable }) {
      const { tlsCreds, tlsHostname, server } = target;
      const found = tlsCreds === undefined ? undefined : credentials.get(tlsCreds);
      if (tlsCreds !== undefined && found === undefined) {
        throw new ImageError('invalid', `No TLS credentials with id '${tlsCreds}'`);
      }
      // Seldom needed: most commands do without.
      const { openNbd } = await import('./open.ts');
      const name = tlsHostname ?? (server.type === 'inet' ? server.host : undefined);
      const { clientTls } = await import('./tls.ts');
      const startTls = found && clientTls(found, name);
      return await openNbd(target, { writable, host, startTls });
    },
  };
}

export const nodeHost: Host = withNbd(thisMachine);
