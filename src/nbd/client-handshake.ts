// The client's side of the handshake: from a fresh stream to an export. Words for what the server
// refuses are QEMU's.

import type { Duplex } from 'node:stream';
import { ImageError } from '../errors.ts';
import { decodeText, encodeText, readU64, u32s, viewOf } from './bytes.ts';
import type { StartTls } from './negotiation.ts';
import { optionName } from './option-names.ts';
import {
  infoRequest,
  metaContextRequest,
  OPTION_REPLY_BYTES,
  optionRequest,
  ProtocolError,
  parseGreeting,
  parseOptionReply,
} from './options.ts';
import {
  MAX_PAYLOAD,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_EXPORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ACK,
  NBD_REP_ERR_BLOCK_SIZE_REQD,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_PLATFORM,
  NBD_REP_ERR_POLICY,
  NBD_REP_ERR_SHUTDOWN,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
  NBD_REP_FLAG_ERROR,
  NBD_REP_INFO,
  NBD_REP_META_CONTEXT,
} from './spec.ts';
import { StreamReader } from './stream-reader.ts';
import { StreamWriter } from './stream-writer.ts';

/** What a server says of an export. */
export interface ExportDetails {
  /** In bytes. */
  readonly size: number;
  /** Transmission flags. */
  readonly flags: number;
  /** In bytes; requests are multiples of the first, and carry no more than the second. */
  readonly minimumBlock: number;
  readonly maximumBlock: number;
  /** The number that `base:allocation` goes by; undefined where the server does not have it. */
  readonly allocationId: number | undefined;
}

export interface Shaken {
  readonly stream: Duplex;
  readonly reader: StreamReader;
  readonly writer: StreamWriter;
  readonly details: ExportDetails;
}

export interface HandshakeOptions {
  readonly exportName: string;
  /** TLS is asked for, where it is given, and nothing is told without. */
  readonly startTls?: StartTls | undefined;
}

/** An option's reply longer than this is taken for an attack, in bytes. */
const MAX_REPLY = 64 * 1024;

export async function shakeHands(stream: Duplex, options: HandshakeOptions): Promise<Shaken> {
  return await new ClientHandshake(stream).run(options);
}

class ClientHandshake {
  #stream: Duplex;
  #reader: StreamReader;
  #writer: StreamWriter;

  constructor(stream: Duplex) {
    this.#stream = stream;
    this.#reader = new StreamReader(stream);
    this.#writer = new StreamWriter(stream);
  }

  async run({ exportName, startTls }: HandshakeOptions): Promise<Shaken> {
    const offered = parseGreeting(await this.#reader.read(18));
    const flags = offered & (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    this.#writer.write([u32s(flags)]);
    const noZeroes = (flags & NBD_FLAG_NO_ZEROES) !== 0;
    const fixed = (flags & NBD_FLAG_FIXED_NEWSTYLE) !== 0;
    if (startTls !== undefined) {
      if (!fixed) throw new ImageError('io', 'Server does not support STARTTLS');
      await this.#tls(startTls);
    }
    let details: ExportDetails | undefined;
    if (fixed) {
      const structured = await this.#simpleOption(NBD_OPT_STRUCTURED_REPLY);
      const allocationId = structured ? await this.#allocation(exportName) : undefined;
      details = await this.#go(exportName, allocationId);
    }
    details ??= await this.#exportName(exportName, noZeroes);
    return { stream: this.#stream, reader: this.#reader, writer: this.#writer, details };
  }

  async #tls(startTls: StartTls): Promise<void> {
    this.#writer.write([optionRequest(NBD_OPT_STARTTLS, new Uint8Array())]);
    const { type, data } = await this.#reply(NBD_OPT_STARTTLS);
    if (type !== NBD_REP_ACK) throw refusal(NBD_OPT_STARTTLS, type, data);
    if (this.#reader.buffered > 0) throw new ProtocolError('plain text behind STARTTLS');
    this.#reader.detach();
    this.#stream = await startTls(this.#stream);
    this.#reader = new StreamReader(this.#stream);
    this.#writer = new StreamWriter(this.#stream);
  }

  /** False where the server does not have it. */
  async #simpleOption(option: number): Promise<boolean> {
    this.#writer.write([optionRequest(option, new Uint8Array())]);
    return (await this.#reply(option)).type === NBD_REP_ACK;
  }

  async #allocation(name: string): Promise<number | undefined> {
    const option = NBD_OPT_SET_META_CONTEXT;
    const query = metaContextRequest({ name, queries: ['base:allocation'] });
    this.#writer.write([optionRequest(option, query)]);
    let id: number | undefined;
    for (;;) {
      const { type, data } = await this.#reply(option);
      // What is wrong with the name, GO will tell.
      if (type !== NBD_REP_META_CONTEXT || data.length < 4) return id;
      if (decodeText(data.subarray(4)) === 'base:allocation') id = viewOf(data).getUint32(0);
    }
  }

  /** Undefined where the server does not know the option. */
  async #go(name: string, allocationId: number | undefined): Promise<ExportDetails | undefined> {
    const option = NBD_OPT_GO;
    const infos = [NBD_INFO_BLOCK_SIZE];
    this.#writer.write([optionRequest(option, infoRequest({ name, infos }))]);
    let found = { size: -1, flags: 0, minimumBlock: 1, maximumBlock: MAX_PAYLOAD };
    for (;;) {
      const { type, data } = await this.#reply(option);
      if (type === NBD_REP_ERR_UNSUP) return undefined;
      if (type >= NBD_REP_FLAG_ERROR) throw refusal(option, type, data);
      if (type === NBD_REP_ACK) break;
      if (type === NBD_REP_INFO) found = { ...found, ...parseInfo(data) };
    }
    if (found.size < 0) throw new ProtocolError('broken server omitted NBD_INFO_EXPORT');
    return { ...found, allocationId };
  }

  /** All that an old server has; without the export it ends the connection. */
  async #exportName(name: string, noZeroes: boolean): Promise<ExportDetails> {
    this.#writer.write([optionRequest(NBD_OPT_EXPORT_NAME, encodeText(name))]);
    const view = viewOf(await this.#reader.read(10));
    if (!noZeroes) await this.#reader.skip(124);
    return {
      size: readU64(view, 0),
      flags: view.getUint16(8),
      minimumBlock: 1,
      maximumBlock: MAX_PAYLOAD,
      allocationId: undefined,
    };
  }

  async #reply(option: number): Promise<{ readonly type: number; readonly data: Uint8Array }> {
    const reply = parseOptionReply(await this.#reader.read(OPTION_REPLY_BYTES));
    if (reply.option !== option) {
      throw new ProtocolError(`Unexpected option type ${reply.option}, expected ${option}`);
    }
    if (reply.length > MAX_REPLY) throw new ProtocolError('option reply is too long');
    return { type: reply.type, data: await this.#reader.read(reply.length) };
  }
}

/** Throws `ProtocolError`. */
function parseInfo(data: Uint8Array): Partial<ExportDetails> {
  const view = viewOf(data);
  const info = data.length >= 2 ? view.getUint16(0) : -1;
  if (info === NBD_INFO_EXPORT && data.length === 12) {
    return { size: readU64(view, 2), flags: view.getUint16(10) };
  }
  if (info !== NBD_INFO_BLOCK_SIZE || data.length !== 14) return {};
  const minimumBlock = view.getUint32(2);
  const maximum = view.getUint32(10);
  if (minimumBlock === 0 || (minimumBlock & (minimumBlock - 1)) !== 0 || minimumBlock > maximum) {
    throw new ProtocolError(`server's minimum block size ${minimumBlock} is invalid`);
  }
  const maximumBlock = Math.min(maximum - (maximum % minimumBlock), MAX_PAYLOAD);
  return { minimumBlock, maximumBlock };
}

function refusal(option: number, type: number, data: Uint8Array): ImageError {
  const name = `${option} (${optionName(option)})`;
  const said = data.length > 0 ? `\nserver reported: ${decodeText(data)}` : '';
  return new ImageError('io', `${reason(type, name)}${said}`, { errno: 'EINVAL' });
}

function reason(type: number, option: string): string {
  switch (type) {
    case NBD_REP_ERR_UNSUP:
      return `Server does not support option ${option}`;
    case NBD_REP_ERR_POLICY:
      return `Denied by server for option ${option}`;
    case NBD_REP_ERR_INVALID:
      return `Invalid parameters for option ${option}`;
    case NBD_REP_ERR_PLATFORM:
      return `Server lacks support for option ${option}`;
    case NBD_REP_ERR_TLS_REQD:
      return `TLS negotiation required before option ${option}\nDid you forget a valid tls-creds?`;
    case NBD_REP_ERR_UNKNOWN:
      return 'Requested export not available';
    case NBD_REP_ERR_SHUTDOWN:
      return `Server shutting down before option ${option}`;
    case NBD_REP_ERR_BLOCK_SIZE_REQD:
      return `Server requires INFO_BLOCK_SIZE for option ${option}`;
    default:
      return `Unknown error code when asking for option ${option}`;
  }
}
