// The server's side of the handshake (fixed newstyle): from the greeting to an export that was chosen,
// or to the end of the connection.

import type { Duplex } from 'node:stream';
import { decodeText, encodeText, joined, u16, u64, viewOf } from './bytes.ts';
import type { NbdExport, NbdExports } from './export.ts';
import { exportFlags } from './export-flags.ts';
import { chosen, listed, type MetaContext } from './meta-contexts.ts';
import { optionName } from './option-names.ts';
import {
  BadOption,
  blockSizeInfo,
  exportInfo,
  greeting,
  infoReply,
  metaContextReply,
  OPTION_HEADER_BYTES,
  optionReply,
  ProtocolError,
  parseInfoRequest,
  parseMetaContextRequest,
  parseOptionHeader,
  serverReply,
} from './options.ts';
import {
  MAX_PAYLOAD,
  MAX_STRING,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_NAME,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ACK,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_POLICY,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_TOO_BIG,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
} from './spec.ts';
import { StreamReader } from './stream-reader.ts';
import { StreamWriter } from './stream-writer.ts';

/** A connection whose client has chosen. */
export interface Negotiated {
  readonly stream: Duplex;
  readonly reader: StreamReader;
  readonly writer: StreamWriter;
  readonly served: NbdExport;
  readonly structured: boolean;
  readonly contexts: readonly MetaContext[];
}

/** Encrypts the stream, as the server. */
export type StartTls = (stream: Duplex) => Promise<Duplex>;

/** An option's data beyond this is passed over unread, in bytes. */
const MAX_OPTION = 4 * 1024 * 1024;

/** Any byte can be asked for; what is aligned to sectors of the host goes fastest. */
const BLOCK_SIZES = { minimum: 1, preferred: 4096, maximum: MAX_PAYLOAD };

/** The option has been answered: with an export, with the end, or there are more to come. */
type Outcome = NbdExport | 'end' | 'more';

export class Negotiation {
  readonly #exports: NbdExports;
  readonly #startTls: StartTls | undefined;
  #stream: Duplex;
  #reader: StreamReader;
  #writer: StreamWriter;
  #secure = false;
  #stopped = false;
  #noZeroes = false;
  #structured = false;
  /** Chosen for this export. */
  #contexts: { readonly served: NbdExport; readonly all: readonly MetaContext[] } | undefined;

  /** `startTls`: nothing is told to clients that do not ask for it. */
  constructor(stream: Duplex, exports: NbdExports, startTls: StartTls | undefined) {
    this.#stream = stream;
    this.#reader = new StreamReader(stream);
    this.#writer = new StreamWriter(stream);
    this.#exports = exports;
    this.#startTls = startTls;
  }

  /** Nothing more is read: the client is as good as gone. */
  stop(): void {
    this.#stopped = true;
    this.#reader.stop();
  }

  /** Undefined where the client leaves. Throws `EndOfStream` and `ProtocolError`. */
  async run(): Promise<Negotiated | undefined> {
    this.#writer.write([greeting(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)]);
    const fixed = await this.#clientFlags();
    for (;;) {
      const header = parseOptionHeader(await this.#reader.read(OPTION_HEADER_BYTES));
      const { option, length } = header;
      if (!fixed && option !== NBD_OPT_EXPORT_NAME) {
        throw new ProtocolError(`option ${option} of a client that does not know replies`);
      }
      const outcome = await this.#answer(option, length);
      if (outcome === 'end') return undefined;
      if (outcome !== 'more') return this.#negotiated(outcome);
    }
  }

  async #clientFlags(): Promise<boolean> {
    const flags = viewOf(await this.#reader.read(4)).getUint32(0);
    if ((flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) !== 0) {
      throw new ProtocolError(`unknown client flags 0x${flags.toString(16)}`);
    }
    this.#noZeroes = (flags & NBD_FLAG_NO_ZEROES) !== 0;
    return (flags & NBD_FLAG_FIXED_NEWSTYLE) !== 0;
  }

  #negotiated(served: NbdExport): Negotiated {
    const contexts = this.#contexts?.served === served ? this.#contexts.all : [];
    return {
      stream: this.#stream,
      reader: this.#reader,
      writer: this.#writer,
      served,
      structured: this.#structured,
      contexts,
    };
  }

  #reply(option: number, type: number, message = ''): void {
    this.#writer.write([optionReply(option, type, encodeText(message))]);
  }

  async #answer(option: number, length: number): Promise<Outcome> {
    const needsTls = this.#startTls !== undefined && !this.#secure;
    if (option === NBD_OPT_EXPORT_NAME) {
      if (needsTls) throw new ProtocolError('export name not permitted before TLS');
      return await this.#exportName(length);
    }
    if (length > MAX_OPTION) {
      await this.#reader.skip(length);
      this.#reply(
        option,
        NBD_REP_ERR_TOO_BIG,
        `Option ${option} (${optionName(option)}) is too long`,
      );
      return 'more';
    }
    const data = await this.#reader.read(length);
    if (needsTls && option !== NBD_OPT_STARTTLS) {
      const why = `Option 0x${option.toString(16)} (${optionName(option)}) not permitted before TLS`;
      this.#reply(option, NBD_REP_ERR_TLS_REQD, why);
      return option === NBD_OPT_ABORT ? 'end' : 'more';
    }
    try {
      return await this.#answerWith(option, data);
    } catch (error) {
      if (!(error instanceof BadOption)) throw error;
      this.#reply(option, NBD_REP_ERR_INVALID, `${error.message} ${optionName(option)}`);
      return 'more';
    }
  }

  async #answerWith(option: number, data: Uint8Array): Promise<Outcome> {
    switch (option) {
      case NBD_OPT_ABORT:
        this.#reply(option, NBD_REP_ACK);
        return 'end';
      case NBD_OPT_LIST:
        this.#list(option, data);
        return 'more';
      case NBD_OPT_STARTTLS:
        await this.#tls(option, data);
        return 'more';
      case NBD_OPT_STRUCTURED_REPLY:
        this.#structuredReply(option, data);
        return 'more';
      case NBD_OPT_INFO:
        this.#info(option, data);
        return 'more';
      case NBD_OPT_GO:
        return this.#info(option, data) ?? 'more';
      case NBD_OPT_LIST_META_CONTEXT:
      case NBD_OPT_SET_META_CONTEXT:
        this.#metaContexts(option, data);
        return 'more';
      default: {
        const why = `Unsupported option ${option} (${optionName(option)})`;
        this.#reply(option, NBD_REP_ERR_UNSUP, why);
        return 'more';
      }
    }
  }

  /** There is no way to refuse but to leave. */
  async #exportName(length: number): Promise<NbdExport> {
    if (length > MAX_STRING) throw new ProtocolError('export name too long');
    const name = decodeText(await this.#reader.read(length));
    const served = this.#exports.find(name);
    if (served === undefined) throw new ProtocolError(`export '${name}' not present`);
    const zeroes = new Uint8Array(this.#noZeroes ? 0 : 124);
    const flags = exportFlags(served, this.#structured);
    this.#writer.write([joined(u64(served.disk.size), u16(flags), zeroes)]);
    return served;
  }

  #expectNoData(option: number, data: Uint8Array): boolean {
    if (data.length === 0) return true;
    const why = `option '${optionName(option)}' has unexpected length`;
    this.#reply(option, NBD_REP_ERR_INVALID, why);
    return false;
  }

  #list(option: number, data: Uint8Array): void {
    if (!this.#expectNoData(option, data)) return;
    for (const { name, description = '' } of this.#exports.list()) {
      this.#writer.write([serverReply(option, name, description)]);
    }
    this.#reply(option, NBD_REP_ACK);
  }

  async #tls(option: number, data: Uint8Array): Promise<void> {
    if (!this.#expectNoData(option, data)) return;
    if (this.#startTls === undefined) {
      this.#reply(option, NBD_REP_ERR_POLICY, 'TLS not configured');
      return;
    }
    if (this.#secure) {
      this.#reply(option, NBD_REP_ERR_INVALID, 'TLS already enabled');
      return;
    }
    // What was sent before the acknowledgement, anybody may have slipped in.
    if (this.#reader.buffered > 0) throw new ProtocolError('plain text behind STARTTLS');
    // What comes from here on is for TLS.
    this.#reader.detach();
    this.#reply(option, NBD_REP_ACK);
    await this.#writer.drained();
    this.#stream = await this.#startTls(this.#stream);
    this.#reader = new StreamReader(this.#stream);
    this.#writer = new StreamWriter(this.#stream);
    this.#secure = true;
    if (this.#stopped) this.#reader.stop();
    // Nothing that was agreed in plain text stands.
    this.#structured = false;
    this.#contexts = undefined;
  }

  #structuredReply(option: number, data: Uint8Array): void {
    if (!this.#expectNoData(option, data)) return;
    if (this.#structured) {
      this.#reply(option, NBD_REP_ERR_INVALID, 'structured reply already negotiated');
      return;
    }
    this.#structured = true;
    this.#reply(option, NBD_REP_ACK);
  }

  /** The export that was named; undefined where there is none. */
  #find(option: number, name: string): NbdExport | undefined {
    const served = this.#exports.find(name);
    if (served === undefined) {
      const shown = name.length > 80 ? `${name.slice(0, 80)}...` : name;
      this.#reply(option, NBD_REP_ERR_UNKNOWN, `export '${shown}' not present`);
    }
    return served;
  }

  #info(option: number, data: Uint8Array): NbdExport | undefined {
    const { name, infos } = parseInfoRequest(data);
    const served = this.#find(option, name);
    if (served === undefined) return undefined;
    const { description, disk } = served;
    const replies: Uint8Array[] = [];
    if (infos.includes(NBD_INFO_NAME)) {
      replies.push(infoReply(option, NBD_INFO_NAME, encodeText(name)));
    }
    if (description !== undefined && description !== '') {
      replies.push(infoReply(option, NBD_INFO_DESCRIPTION, encodeText(description)));
    }
    replies.push(blockSizeInfo(option, BLOCK_SIZES));
    replies.push(exportInfo(option, disk.size, exportFlags(served, this.#structured)));
    this.#writer.write(replies);
    this.#reply(option, NBD_REP_ACK);
    return served;
  }

  #metaContexts(option: number, data: Uint8Array): void {
    if (!this.#structured) {
      const why = `request option '${optionName(option)}' when structured reply is not negotiated`;
      this.#reply(option, NBD_REP_ERR_INVALID, why);
      return;
    }
    const isSet = option === NBD_OPT_SET_META_CONTEXT;
    if (isSet) this.#contexts = undefined;
    const { name, queries } = parseMetaContextRequest(data);
    const served = this.#find(option, name);
    if (served === undefined) return;
    const all = isSet ? chosen(served, queries) : listed(served, queries);
    // In a list the numbers mean nothing.
    const replies = all.map((each) => metaContextReply(option, isSet ? each.id : 0, each.name));
    this.#writer.write(replies);
    this.#reply(option, NBD_REP_ACK);
    if (isSet) this.#contexts = { served, all };
  }
}
