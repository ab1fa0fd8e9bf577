// The bytes of the transmission phase: requests and their replies. Pure; both sides use it.

import { encodeText, joined, readU64, u16, u32s, u64, viewOf, writeU64 } from './bytes.ts';
import { ProtocolError } from './options.ts';
import {
  NBD_ERRORS,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_REQUEST_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
  type NbdErrorName,
} from './spec.ts';

export const REQUEST_BYTES = 28;

/** Chosen by the client: its 8 bytes come back with the reply, as two halves. */
export interface Cookie {
  readonly high: number;
  readonly low: number;
}

export interface Request {
  readonly flags: number;
  readonly type: number;
  readonly cookie: Cookie;
  /** Not exact past 2^53, where no disk reaches. */
  readonly offset: number;
  readonly length: number;
}

/** Throws `ProtocolError`. */
export function parseRequest(bytes: Uint8Array): Request {
  const view = viewOf(bytes);
  if (view.getUint32(0) !== NBD_REQUEST_MAGIC) throw new ProtocolError('bad magic of a request');
  return {
    flags: view.getUint16(4),
    type: view.getUint16(6),
    cookie: { high: view.getUint32(8), low: view.getUint32(12) },
    offset: readU64(view, 16),
    length: view.getUint32(24),
  };
}

export function requestHeader({ flags, type, cookie, offset, length }: Request): Uint8Array {
  const bytes = new Uint8Array(REQUEST_BYTES);
  const view = viewOf(bytes);
  view.setUint32(0, NBD_REQUEST_MAGIC);
  view.setUint16(4, flags);
  view.setUint16(6, type);
  view.setUint32(8, cookie.high);
  view.setUint32(12, cookie.low);
  writeU64(view, 16, offset);
  view.setUint32(24, length);
  return bytes;
}

export const SIMPLE_REPLY_BYTES = 16;

/** `error`: of the wire, 0 for none. The data of a READ follows. */
export function simpleReply({ high, low }: Cookie, error: number): Uint8Array {
  return u32s(NBD_SIMPLE_REPLY_MAGIC, error, high, low);
}

export const CHUNK_HEADER_BYTES = 20;

export interface Chunk {
  readonly flags: number;
  readonly type: number;
  readonly cookie: Cookie;
  readonly length: number;
}

/** What follows the magic of a structured reply. */
export function parseChunkHeader(view: DataView): Chunk {
  return {
    flags: view.getUint16(4),
    type: view.getUint16(6),
    cookie: { high: view.getUint32(8), low: view.getUint32(12) },
    length: view.getUint32(16),
  };
}

function chunkHeader({ flags, type, cookie, length }: Chunk, room = 0): Uint8Array {
  const bytes = new Uint8Array(CHUNK_HEADER_BYTES + room);
  const view = viewOf(bytes);
  view.setUint32(0, NBD_STRUCTURED_REPLY_MAGIC);
  view.setUint16(4, flags);
  view.setUint16(6, type);
  view.setUint32(8, cookie.high);
  view.setUint32(12, cookie.low);
  view.setUint32(16, length);
  return bytes;
}

const done = (isLast: boolean): number => (isLast ? NBD_REPLY_FLAG_DONE : 0);

/** A reply without content, or the end of one. */
export function emptyChunk(cookie: Cookie, type: number): Uint8Array {
  return chunkHeader({ flags: NBD_REPLY_FLAG_DONE, type, cookie, length: 0 });
}

/** What stands before `length` bytes of data. */
export function dataChunk(
  cookie: Cookie,
  offset: number,
  length: number,
  isLast: boolean,
): Uint8Array {
  const type = NBD_REPLY_TYPE_OFFSET_DATA;
  const bytes = chunkHeader({ flags: done(isLast), type, cookie, length: 8 + length }, 8);
  writeU64(viewOf(bytes), CHUNK_HEADER_BYTES, offset);
  return bytes;
}

export function holeChunk(
  cookie: Cookie,
  offset: number,
  length: number,
  isLast: boolean,
): Uint8Array {
  const type = NBD_REPLY_TYPE_OFFSET_HOLE;
  const header = chunkHeader({ flags: done(isLast), type, cookie, length: 12 });
  return joined(header, u64(offset), u32s(length));
}

/** The last chunk: `message` is cut to what the protocol allows. */
export function errorChunk(cookie: Cookie, error: number, message: string): Uint8Array {
  const text = encodeText(message).subarray(0, 4096);
  const flags = NBD_REPLY_FLAG_DONE;
  const length = 6 + text.length;
  const header = chunkHeader({ flags, type: NBD_REPLY_TYPE_ERROR, cookie, length });
  return joined(header, u32s(error), u16(text.length), text);
}

export interface Descriptor {
  /** In bytes, 1 to 2^32 - 1. */
  readonly length: number;
  readonly flags: number;
}

export function statusChunk(
  cookie: Cookie,
  contextId: number,
  descriptors: readonly Descriptor[],
  isLast: boolean,
): Uint8Array {
  const type = NBD_REPLY_TYPE_BLOCK_STATUS;
  const length = 4 + 8 * descriptors.length;
  const bytes = chunkHeader({ flags: done(isLast), type, cookie, length }, length);
  const view = viewOf(bytes);
  view.setUint32(CHUNK_HEADER_BYTES, contextId);
  let at = CHUNK_HEADER_BYTES + 4;
  for (const descriptor of descriptors) {
    view.setUint32(at, descriptor.length);
    view.setUint32(at + 4, descriptor.flags);
    at += 8;
  }
  return bytes;
}

const WIRE_NAMES: Readonly<Record<string, NbdErrorName>> = {
  EROFS: 'EPERM',
  EPERM: 'EPERM',
  EIO: 'EIO',
  ENOMEM: 'ENOMEM',
  ENOSPC: 'ENOSPC',
  EDQUOT: 'ENOSPC',
  EFBIG: 'ENOSPC',
  EOVERFLOW: 'EOVERFLOW',
  ENOTSUP: 'ENOTSUP',
  EOPNOTSUPP: 'ENOTSUP',
  ESHUTDOWN: 'ESHUTDOWN',
};

/** The symbolic errno of a number on the wire. */
export function errnoOfWire(error: number): string {
  const found = Object.entries(NBD_ERRORS).find(([, value]) => value === error);
  return found?.[0] ?? 'EINVAL';
}

/** The number on the wire for a symbolic errno. */
export function wireError(errno: string): number {
  return NBD_ERRORS[WIRE_NAMES[errno] ?? 'EINVAL'];
}
