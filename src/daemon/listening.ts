// Listening at sockets, and what keeps one from it, in QEMU's words.

import { chmodSync, existsSync, lstatSync, unlinkSync } from 'node:fs';
import { createConnection, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { ImageError, strerror } from '../errors.ts';

export type SocketAddress =
  | { readonly type: 'unix'; readonly path: string }
  /** Port 0: any that is free. */
  | { readonly type: 'inet'; readonly host: string; readonly port: number };

/** Rejects with `io` where it can't listen there. */
export async function listenAt(server: Server, address: SocketAddress): Promise<void> {
  if (address.type === 'unix') removeStaleSocket(address.path);
  await new Promise<void>((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException) =>
      reject(failure(`Failed to bind socket to ${shown(address)}`, address, error));
    server.once('error', failed);
    server.listen(optionsOf(address), () => {
      server.off('error', failed);
      resolve();
    });
  });
  // A connection that could not be accepted is its client's trouble.
  server.on('error', () => undefined);
  // Who may enter the directory and read the file may connect, as with QEMU's.
  if (address.type === 'unix') chmodSync(address.path, 0o777 & ~process.umask());
}

/** Rejects with `io` where nobody listens. */
export function connectTo(address: SocketAddress): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const where = address.type === 'unix' ? `'${address.path}'` : `'${shown(address)}'`;
    const failed = (error: NodeJS.ErrnoException) =>
      reject(failure(`Failed to connect to ${where}`, address, error));
    const socket = createConnection(optionsOf(address), () => {
      socket.off('error', failed);
      resolve(socket);
    });
    socket.once('error', failed);
  });
}

function optionsOf(address: SocketAddress) {
  return address.type === 'unix'
    ? { path: address.path }
    : { host: address.host, port: address.port };
}

/** A socket that nobody listens at any more is in the way. QEMU removes it, whoever listens. */
function removeStaleSocket(path: string): void {
  try {
    if (lstatSync(path).isSocket()) unlinkSync(path);
  } catch {
    // Not there, or listening will say why not.
  }
}

function shown(address: SocketAddress): string {
  return address.type === 'unix' ? address.path : `${address.host}:${address.port}`;
}

function failure(failed: string, address: SocketAddress, error: NodeJS.ErrnoException): ImageError {
  const code = errnoAt(address, error);
  const why = code === undefined ? error.message : strerror(code);
  return new ImageError('io', `${failed}: ${why}`, {
    cause: error,
    ...(code !== undefined && { errno: code }),
  });
}

/** Node.js tells of a missing directory as of one that is closed to us. */
function errnoAt(address: SocketAddress, { code }: NodeJS.ErrnoException): string | undefined {
  const missing = address.type === 'unix' && !existsSync(dirname(address.path));
  return code === 'EACCES' && missing ? 'ENOENT' : code;
}
