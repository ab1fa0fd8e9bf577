// Connections to NBD servers over sockets, with QEMU's words for what fails.

import { connect as connectSocket, type Socket } from 'node:net';
import { ImageError, strerror } from '../errors.ts';
import type { NbdServerAddress } from '../io/host.ts';

/** How an address is shown. */
export function addressText(server: NbdServerAddress): string {
  if (server.type === 'unix') return server.path;
  return `${server.host}:${server.port}`;
}

export async function connectTo(server: NbdServerAddress): Promise<Socket> {
  const socket = connectSocket(
    server.type === 'unix' ? { path: server.path } : { host: server.host, port: portOf(server) },
  );
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
  } catch (error) {
    socket.destroy();
    throw connectError(server, error as NodeJS.ErrnoException);
  }
  socket.setNoDelay(true);
  socket.setKeepAlive(true);
  return socket;
}

function portOf(server: NbdServerAddress & { readonly type: 'inet' }): number {
  const port = Number(server.port);
  if (/^\d+$/.test(server.port) && port <= 65535) return port;
  throw unresolved(server, 'Servname not supported for ai_socktype');
}

function unresolved(server: NbdServerAddress, why: string): ImageError {
  return new ImageError('io', `address resolution failed for ${addressText(server)}: ${why}`, {
    errno: 'EINVAL',
  });
}

function errorsOf(error: NodeJS.ErrnoException): readonly NodeJS.ErrnoException[] {
  return error instanceof AggregateError ? (error.errors as NodeJS.ErrnoException[]) : [error];
}

function connectError(server: NbdServerAddress, error: NodeJS.ErrnoException): ImageError {
  // Of several addresses, the first tells.
  const [first = error] = errorsOf(error);
  const { code = '' } = first;
  if (code === 'ENOTFOUND') return unresolved(server, 'Name or service not known');
  if (code === 'EAI_AGAIN') return unresolved(server, 'Temporary failure in name resolution');
  const why = /^E[A-Z]+$/.test(code) ? strerror(code) : first.message;
  return new ImageError('io', `Failed to connect to '${addressText(server)}': ${why}`, {
    cause: error,
    ...(code !== '' && { errno: code }),
  });
}
