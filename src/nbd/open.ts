// Opens exports of NBD servers as storages: connection, TLS, handshake.

import { ImageError } from '../errors.ts';
import type { Host, NbdTarget } from '../io/host.ts';
import type { Storage } from '../io/storage.ts';
import { NbdClient } from './client.ts';
import { shakeHands } from './client-handshake.ts';
import { connectTo } from './connect.ts';
import type { StartTls } from './negotiation.ts';
import { ProtocolError } from './options.ts';
import { NbdSession } from './session.ts';
import { NbdStorage } from './storage.ts';
import { EndOfStream } from './stream-reader.ts';

export interface OpenNbdOptions {
  readonly writable: boolean;
  readonly host: Pick<Host, 'now' | 'sleep'>;
  /** For the credentials that the target names. */
  readonly startTls?: StartTls | undefined;
}

/** Between two attempts to open, in milliseconds. */
const PAUSE = 200;

export async function openNbd(
  target: NbdTarget,
  { writable, host, startTls }: OpenNbdOptions,
): Promise<Storage> {
  const connect = () => connectClient(target, startTls);
  const client = await patiently(connect, target.openTimeout * 1000, host);
  try {
    const session = new NbdSession(client, {
      connect,
      reconnectDelay: target.reconnectDelay * 1000,
      now: () => host.now(),
      sleep: (milliseconds) => host.sleep(milliseconds),
    });
    return new NbdStorage(target.filename, session, writable);
  } catch (error) {
    await client.close();
    throw error;
  }
}

async function connectClient(
  { server, export: exportName }: NbdTarget,
  startTls: StartTls | undefined,
): Promise<NbdClient> {
  const socket = await connectTo(server);
  try {
    const shaken = await shakeHands(socket, { exportName, startTls });
    if (!Number.isSafeInteger(shaken.details.size)) {
      throw new ImageError('unsupported', `the export has more than 2^53 bytes`);
    }
    return new NbdClient(shaken);
  } catch (error) {
    socket.destroy();
    throw handshakeError(error);
  }
}

function handshakeError(error: unknown): unknown {
  if (error instanceof EndOfStream) {
    return new ImageError(
      'io',
      'Failed to read data: Unexpected end-of-file before all data were read',
      {
        cause: error,
        errno: 'EINVAL',
      },
    );
  }
  if (!(error instanceof ProtocolError)) return error;
  return new ImageError('io', error.message, { cause: error, errno: 'EINVAL' });
}

/** Tries at least once, and again until the time is over. */
async function patiently<T>(
  work: () => Promise<T>,
  timeout: number,
  host: Pick<Host, 'now' | 'sleep'>,
): Promise<T> {
  const end = host.now() + timeout;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (host.now() >= end) throw error;
      await host.sleep(PAUSE);
    }
  }
}
