// The server's side of the transmission phase: requests in, replies out in the order in which they
// are done. What is in flight is bounded in bytes and in number.

import { ImageError } from '../errors.ts';
import { Budget } from './budget.ts';
import { checkRequest, Refusal } from './check-request.ts';
import { carryOut } from './commands.ts';
import type { Negotiated } from './negotiation.ts';
import { Replies } from './replies.ts';
import { parseRequest, REQUEST_BYTES, type Request } from './requests.ts';
import { MAX_PAYLOAD, NBD_CMD_DISC, NBD_CMD_READ, NBD_CMD_WRITE } from './spec.ts';

/** In flight at once on one connection. */
const MOST_REQUESTS = 128;
/** Of data in flight on one connection; a single request may have all of it. */
const MOST_BYTES = MAX_PAYLOAD;
/** What a request without data counts, in bytes. */
const LEAST_BYTES = MOST_BYTES / MOST_REQUESTS;

export type OnMistake = (error: unknown) => void;

/**
 * Serves until the client leaves, or `connection.reader` is stopped. Throws `ProtocolError`.
 * `onMistake` hears what a request was answered `EIO` for that is no failure of its disk.
 */
export async function transmit(connection: Negotiated, onMistake: OnMistake): Promise<void> {
  const { reader, writer } = connection;
  const budget = new Budget(MOST_BYTES);
  const replies = new Replies(connection);
  const running = new Set<Promise<void>>();
  try {
    for (;;) {
      const header = reader.take(REQUEST_BYTES) ?? (await next(connection));
      if (header === undefined) return;
      const request = parseRequest(header);
      if (request.type === NBD_CMD_DISC) return;
      const cost = costOf(request);
      if (!budget.tryTake(cost)) await budget.take(cost);
      const payload = await payloadOf(request, connection);
      // Given back when the reply has left: a client that does not read its replies waits.
      const sent = () => budget.give(cost);
      const work = answer({ request, payload, connection, replies, sent, onMistake });
      running.add(work);
      void work.then(() => running.delete(work));
    }
  } finally {
    await Promise.all(running);
    await writer.drained();
  }
}

/** Undefined where the client left between two requests. */
async function next({ reader }: Negotiated): Promise<Uint8Array | undefined> {
  return (await reader.hasMore()) ? await reader.read(REQUEST_BYTES) : undefined;
}

function costOf({ type, length }: Request): number {
  const carries = type === NBD_CMD_READ || type === NBD_CMD_WRITE;
  // What is longer than it may be is refused, and not held.
  return Math.max(LEAST_BYTES, carries && length <= MAX_PAYLOAD ? length : 0);
}

/** The data of a WRITE; undefined for others, and where it is too long: passed over then. */
async function payloadOf(
  { type, length }: Request,
  { reader }: Negotiated,
): Promise<Uint8Array | undefined> {
  if (type !== NBD_CMD_WRITE) return undefined;
  if (length <= MAX_PAYLOAD) return await reader.read(length);
  await reader.skip(length);
  return undefined;
}

interface Asked {
  readonly request: Request;
  readonly payload: Uint8Array | undefined;
  readonly connection: Negotiated;
  readonly replies: Replies;
  readonly sent: () => void;
  readonly onMistake: OnMistake;
}

/** Never rejects. */
async function answer(asked: Asked): Promise<void> {
  const { request, payload, connection, replies, sent, onMistake } = asked;
  try {
    checkRequest(request, connection);
    await carryOut(request, payload, connection, replies, sent);
  } catch (error) {
    if (!(error instanceof Refusal || error instanceof ImageError)) onMistake(error);
    const { errno, message } = refusalOf(error);
    replies.error(request, errno, message, sent);
  }
}

function refusalOf(error: unknown): { readonly errno: string; readonly message: string } {
  if (error instanceof Refusal) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (!(error instanceof ImageError)) return { errno: 'EIO', message };
  return { errno: error.errno ?? ERRNO_OF[error.code] ?? 'EIO', message };
}

const ERRNO_OF: Readonly<Partial<Record<ImageError['code'], string>>> = {
  'read-only': 'EPERM',
  'no-space': 'ENOSPC',
  invalid: 'EINVAL',
  unsupported: 'ENOTSUP',
};
