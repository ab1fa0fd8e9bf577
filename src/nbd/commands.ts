// What a server does for each command, once it has been found right.

import { MIB } from '../units.ts';
import type { NbdDisk } from './export.ts';
import type { MetaContext } from './meta-contexts.ts';
import type { Negotiated } from './negotiation.ts';
import type { ReadPart, Replies, Sent } from './replies.ts';
import { type Descriptor, type Request, statusChunk } from './requests.ts';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_STATE_DIRTY,
  NBD_STATE_HOLE,
  NBD_STATE_ZERO,
} from './spec.ts';

/** From this length on, in bytes, zeros are looked for before they are read. */
const WORTH_LOOKING = 64 * 1024;
/** Runs in one answer, as QEMU: 1 MiB of them. */
const MOST_RUNS = MIB / 8;

/** Answers by way of `replies`; rejects where it can't, before anything was answered. */
export async function carryOut(
  request: Request,
  payload: Uint8Array | undefined,
  { served, contexts }: Negotiated,
  replies: Replies,
  sent: Sent,
): Promise<void> {
  const { disk } = served;
  const fua = (request.flags & NBD_CMD_FLAG_FUA) !== 0;
  if (request.type === NBD_CMD_READ) {
    if (fua) await disk.flush();
    await read(request, disk, replies, sent);
  } else if (request.type === NBD_CMD_BLOCK_STATUS) {
    await blockStatus(request, disk, contexts, replies, sent);
  } else {
    await change(request, payload, disk);
    if (fua && request.type !== NBD_CMD_CACHE) await disk.flush();
    replies.done(request, sent);
  }
}

async function change(
  { type, flags, offset, length }: Request,
  payload: Uint8Array | undefined,
  disk: NbdDisk,
): Promise<void> {
  if (type === NBD_CMD_FLUSH) await disk.flush();
  else if (type === NBD_CMD_CACHE) await cache(disk, offset, length);
  // Nothing has to be done for nothing; the layers below need not know.
  else if (length === 0) return;
  else if (type === NBD_CMD_WRITE && payload !== undefined) await disk.write(offset, payload);
  else if (type === NBD_CMD_TRIM) await disk.discard(offset, length);
  else if (type === NBD_CMD_WRITE_ZEROES) {
    const mayPunch = (flags & NBD_CMD_FLAG_NO_HOLE) === 0;
    const fast = (flags & NBD_CMD_FLAG_FAST_ZERO) !== 0;
    await disk.zero(offset, length, { mayPunch, fast });
  }
}

/** Reads what the machine then has in its memory. */
async function cache(disk: NbdDisk, offset: number, length: number): Promise<void> {
  const target = new Uint8Array(Math.min(length, MIB));
  for (let done = 0; done < length; done += MIB) {
    await disk.read(offset + done, target.subarray(0, Math.min(MIB, length - done)));
  }
}

async function read(request: Request, disk: NbdDisk, replies: Replies, sent: Sent): Promise<void> {
  const { offset, length, flags } = request;
  const inOnePiece = !replies.structured || (flags & NBD_CMD_FLAG_DF) !== 0;
  if (inOnePiece || length < WORTH_LOOKING) {
    const bytes = Buffer.allocUnsafeSlow(length);
    if (length > 0) await disk.read(offset, bytes);
    replies.data(request, bytes, sent);
    return;
  }
  const parts: ReadPart[] = [];
  const end = offset + length;
  for (let at = offset; at < end; ) {
    for (const { length: run, zero } of await disk.status(at, end - at, MOST_RUNS)) {
      const bytes = zero ? undefined : Buffer.allocUnsafeSlow(run);
      if (bytes !== undefined) await disk.read(at, bytes);
      parts.push({ offset: at, length: run, bytes });
      at += run;
    }
  }
  replies.parts(request, parts, sent);
}

async function blockStatus(
  { cookie, offset, length, flags }: Request,
  disk: NbdDisk,
  contexts: readonly MetaContext[],
  replies: Replies,
  sent: Sent,
): Promise<void> {
  const most = (flags & NBD_CMD_FLAG_REQ_ONE) !== 0 ? 1 : MOST_RUNS;
  const chunks: Uint8Array[] = [];
  for (const [i, context] of contexts.entries()) {
    const descriptors = await describe(context, disk, offset, length, most);
    const isLast = i === contexts.length - 1;
    chunks.push(statusChunk(cookie, context.id, descriptors, isLast));
  }
  replies.chunks(chunks, sent);
}

async function describe(
  context: MetaContext,
  disk: NbdDisk,
  offset: number,
  length: number,
  most: number,
): Promise<readonly Descriptor[]> {
  if (context.kind === 'allocation') {
    const runs = await disk.status(offset, length, most);
    return runs.map(({ length, hole, zero }) => {
      return { length, flags: (hole ? NBD_STATE_HOLE : 0) | (zero ? NBD_STATE_ZERO : 0) };
    });
  }
  if (context.kind === 'depth') {
    const runs = await disk.depths(offset, length, most);
    return runs.map(({ length, depth }) => ({ length, flags: depth }));
  }
  const runs = await disk.dirty(context.bitmap, offset, length, most);
  return runs.map(({ length, dirty }) => ({ length, flags: dirty ? NBD_STATE_DIRTY : 0 }));
}
