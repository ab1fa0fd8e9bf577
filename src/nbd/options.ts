// The bytes of the handshake: greeting, options and their replies. Pure; both sides use it.

import { decodeText, encodeText, joined, u16, u32s, u64, viewOf } from './bytes.ts';
import {
  IHAVEOPT,
  MAX_STRING,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_EXPORT,
  NBD_REP_INFO,
  NBD_REP_MAGIC,
  NBD_REP_META_CONTEXT,
  NBD_REP_SERVER,
  NBDMAGIC,
} from './spec.ts';

/** What the other side sent makes no sense; there is no going on with it. */
export class ProtocolError extends Error {}

/** What stands in an option does not fit its length, or the rules: that option is refused. */
export class BadOption extends Error {}

/** Greeting of the server: 18 bytes. */
export function greeting(handshakeFlags: number): Uint8Array {
  const bytes = new Uint8Array(18);
  const view = viewOf(bytes);
  view.setBigUint64(0, NBDMAGIC);
  view.setBigUint64(8, IHAVEOPT);
  view.setUint16(16, handshakeFlags);
  return bytes;
}

/** The server's handshake flags. Throws `ProtocolError`. */
export function parseGreeting(bytes: Uint8Array): number {
  const view = viewOf(bytes);
  if (view.getBigUint64(0) !== NBDMAGIC) throw new ProtocolError('Bad initial magic received');
  if (view.getBigUint64(8) !== IHAVEOPT) {
    throw new ProtocolError('Bad server magic received: it is no newstyle server');
  }
  return view.getUint16(16);
}

export interface OptionHeader {
  readonly option: number;
  /** Of what follows, in bytes. */
  readonly length: number;
}

export const OPTION_HEADER_BYTES = 16;

/** Throws `ProtocolError`. */
export function parseOptionHeader(bytes: Uint8Array): OptionHeader {
  const view = viewOf(bytes);
  if (view.getBigUint64(0) !== IHAVEOPT) throw new ProtocolError('bad magic of an option');
  return { option: view.getUint32(8), length: view.getUint32(12) };
}

export function optionRequest(option: number, data: Uint8Array): Uint8Array {
  return joined(magic(IHAVEOPT), u32s(option, data.length), data);
}

function magic(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, value);
  return bytes;
}

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly length: number;
}

export const OPTION_REPLY_BYTES = 20;

/** Throws `ProtocolError`. */
export function parseOptionReply(bytes: Uint8Array): OptionReply {
  const view = viewOf(bytes);
  if (view.getBigUint64(0) !== NBD_REP_MAGIC) {
    throw new ProtocolError('bad magic of an option reply');
  }
  return { option: view.getUint32(8), type: view.getUint32(12), length: view.getUint32(16) };
}

export function optionReply(
  option: number,
  type: number,
  data: Uint8Array = new Uint8Array(),
): Uint8Array {
  return joined(magic(NBD_REP_MAGIC), u32s(option, type, data.length), data);
}

/** One export in the answer to LIST. */
export function serverReply(option: number, name: string, description: string): Uint8Array {
  const bytes = encodeText(name);
  const data = joined(u32s(bytes.length), bytes, encodeText(description));
  return optionReply(option, NBD_REP_SERVER, data);
}

export function metaContextReply(option: number, id: number, name: string): Uint8Array {
  return optionReply(option, NBD_REP_META_CONTEXT, joined(u32s(id), encodeText(name)));
}

export function infoReply(option: number, info: number, data: Uint8Array): Uint8Array {
  return optionReply(option, NBD_REP_INFO, joined(u16(info), data));
}

export function exportInfo(option: number, size: number, flags: number): Uint8Array {
  return infoReply(option, NBD_INFO_EXPORT, joined(u64(size), u16(flags)));
}

/** In bytes; each a multiple of the one before. */
export interface BlockSizes {
  readonly minimum: number;
  readonly preferred: number;
  readonly maximum: number;
}

export function blockSizeInfo(option: number, sizes: BlockSizes): Uint8Array {
  const data = u32s(sizes.minimum, sizes.preferred, sizes.maximum);
  return infoReply(option, NBD_INFO_BLOCK_SIZE, data);
}

/** Reads what stands in an option, in order. All throw `BadOption`. */
export class OptionData {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
  }

  #take(length: number): number {
    const at = this.#at;
    if (at + length > this.#bytes.length) throw new BadOption('Inconsistent lengths in option');
    this.#at += length;
    return at;
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4));
  }

  /** A text behind its length. */
  text(): string {
    const length = this.u32();
    if (length > MAX_STRING) throw new BadOption(`Invalid name length: ${length}`);
    const at = this.#take(length);
    const bytes = this.#bytes.subarray(at, at + length);
    if (bytes.includes(0)) throw new BadOption('Unexpected embedded NUL in option');
    return decodeText(bytes);
  }

  /** All has been read. */
  end(): void {
    if (this.#at !== this.#bytes.length) throw new BadOption('Inconsistent lengths in option');
  }
}

/** What INFO and GO ask for. */
export interface InfoRequest {
  readonly name: string;
  readonly infos: readonly number[];
}

export function parseInfoRequest(bytes: Uint8Array): InfoRequest {
  const data = new OptionData(bytes);
  const name = data.text();
  const infos = Array.from({ length: data.u16() }, () => data.u16());
  data.end();
  return { name, infos };
}

export function infoRequest({ name, infos }: InfoRequest): Uint8Array {
  const bytes = encodeText(name);
  return joined(u32s(bytes.length), bytes, u16(infos.length), ...infos.map(u16));
}

/** What LIST_META_CONTEXT and SET_META_CONTEXT ask for. */
export interface MetaContextRequest {
  readonly name: string;
  readonly queries: readonly string[];
}

/** More queries than this are a mistake, or an attack. */
const MAX_QUERIES = 1024;

export function parseMetaContextRequest(bytes: Uint8Array): MetaContextRequest {
  const data = new OptionData(bytes);
  const name = data.text();
  const count = data.u32();
  if (count > MAX_QUERIES) throw new BadOption(`Too many queries: ${count}`);
  const queries = Array.from({ length: count }, () => data.text());
  data.end();
  return { name, queries };
}

export function metaContextRequest({ name, queries }: MetaContextRequest): Uint8Array {
  const texts = [name, ...queries].map(encodeText);
  const [first, ...rest] = texts.map((text) => joined(u32s(text.length), text));
  return joined(first ?? u32s(0), u32s(queries.length), ...rest);
}
