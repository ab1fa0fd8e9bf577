// One connection to a server, after the handshake: many requests under way, replies in any order.

import { readU64, viewOf } from './bytes.ts';
import type { ExportDetails, Shaken } from './client-handshake.ts';
import { ProtocolError } from './options.ts';
import {
  CHUNK_HEADER_BYTES,
  type Chunk,
  type Descriptor,
  errnoOfWire,
  parseChunkHeader,
  requestHeader,
  SIMPLE_REPLY_BYTES,
} from './requests.ts';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_DISC,
  NBD_CMD_READ,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_ERROR_BIT,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
} from './spec.ts';

/** The connection is gone: nobody knows whether what was asked for was done. */
export class ConnectionLost extends Error {}

/** The server said no. */
export class RequestFailed extends Error {
  readonly errno: string;

  constructor(errno: string) {
    super(errno);
    this.errno = errno;
  }
}

export interface ClientRequest {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  /** Of a WRITE. Not changed before it resolves. */
  readonly payload?: Uint8Array;
  /** Of a READ: filled. */
  readonly target?: Uint8Array;
}

interface Pending extends ClientRequest {
  readonly resolve: (descriptors: readonly Descriptor[]) => void;
  readonly reject: (error: Error) => void;
  descriptors: readonly Descriptor[];
  /** Bytes of the target that came so far. */
  filled: number;
  /** Of the first chunk that told of one. */
  errno: string | undefined;
}

/** No message of a server is longer, nor a list of runs, in bytes. */
const MAX_CHUNK = 8 * 1024 * 1024;

export class NbdClient {
  readonly details: ExportDetails;
  readonly #shaken: Shaken;
  readonly #pending = new Map<number, Pending>();
  #nextCookie = 1;
  #lost: Error | undefined;

  constructor(shaken: Shaken) {
    this.#shaken = shaken;
    this.details = shaken.details;
    shaken.stream.on('error', () => undefined);
    this.#receive().catch((error: unknown) => this.#lose(error));
  }

  get isLost(): boolean {
    return this.#lost !== undefined;
  }

  /**
   * Resolves when the server is done; to the runs of a BLOCK_STATUS. Rejects with `RequestFailed` or
   * `ConnectionLost`.
   */
  request(request: ClientRequest): Promise<readonly Descriptor[]> {
    if (this.#lost !== undefined) return Promise.reject(this.#lost);
    const low = this.#nextCookie;
    this.#nextCookie = (this.#nextCookie % 0xffff_ffff) + 1;
    return new Promise((resolve, reject) => {
      const state = { descriptors: [], filled: 0, errno: undefined };
      this.#pending.set(low, { ...request, ...state, resolve, reject });
      const header = requestHeader({ ...request, cookie: { high: 0, low } });
      const { payload } = request;
      this.#shaken.writer.write(payload === undefined ? [header] : [header, payload]);
    });
  }

  /** Takes leave. What is under way is lost. */
  async close(): Promise<void> {
    const { stream, writer } = this.#shaken;
    const idle = { flags: 0, offset: 0, length: 0, cookie: { high: 0, low: 0 } };
    if (this.#lost === undefined) writer.write([requestHeader({ ...idle, type: NBD_CMD_DISC })]);
    await writer.drained();
    stream.end();
    stream.destroy();
    this.#lose(undefined);
  }

  #lose(cause: unknown): void {
    if (this.#lost !== undefined) return;
    this.#lost = new ConnectionLost('the connection to the server is gone', { cause });
    this.#shaken.stream.destroy();
    for (const { reject } of this.#pending.values()) reject(this.#lost);
    this.#pending.clear();
  }

  async #receive(): Promise<never> {
    const { reader } = this.#shaken;
    for (;;) {
      const head = await reader.read(SIMPLE_REPLY_BYTES);
      const view = viewOf(head);
      const magic = view.getUint32(0);
      if (magic === NBD_SIMPLE_REPLY_MAGIC) await this.#simple(view);
      else if (magic === NBD_STRUCTURED_REPLY_MAGIC) {
        const whole = new Uint8Array(CHUNK_HEADER_BYTES);
        whole.set(head);
        await reader.readInto(whole.subarray(SIMPLE_REPLY_BYTES));
        await this.#chunk(parseChunkHeader(viewOf(whole)));
      } else throw new ProtocolError('bad magic of a reply');
    }
  }

  #pendingOf({ high, low }: Chunk['cookie']): Pending {
    const pending = high === 0 ? this.#pending.get(low) : undefined;
    if (pending === undefined) throw new ProtocolError('a reply to what was not asked');
    return pending;
  }

  async #simple(view: DataView): Promise<void> {
    const error = view.getUint32(4);
    const cookie = { high: view.getUint32(8), low: view.getUint32(12) };
    const pending = this.#pendingOf(cookie);
    if (error !== 0) pending.errno = errnoOfWire(error);
    else if (pending.type === NBD_CMD_BLOCK_STATUS) {
      throw new ProtocolError('a simple reply to a question for runs');
    } else if (pending.target !== undefined) {
      await this.#shaken.reader.readInto(pending.target);
      pending.filled = pending.target.length;
    }
    this.#finish(cookie.low, pending);
  }

  async #chunk({ flags, type, cookie, length }: Chunk): Promise<void> {
    const pending = this.#pendingOf(cookie);
    const isData = type === NBD_REPLY_TYPE_OFFSET_DATA;
    if (!isData && length > MAX_CHUNK) throw new ProtocolError('a chunk is too long');
    if (isData) await this.#data(pending, length);
    else {
      const content = await this.#shaken.reader.read(length);
      if (type === NBD_REPLY_TYPE_OFFSET_HOLE) hole(pending, content);
      else if (type === NBD_REPLY_TYPE_BLOCK_STATUS) {
        this.#status(pending, content);
      } else if ((type & NBD_REPLY_TYPE_ERROR_BIT) !== 0) {
        if (length < 6) throw new ProtocolError('an error without a number');
        pending.errno ??= errnoOfWire(viewOf(content).getUint32(0));
      } else if (type !== NBD_REPLY_TYPE_NONE || length !== 0) {
        throw new ProtocolError(`a chunk of unknown type ${type}`);
      }
    }
    if ((flags & NBD_REPLY_FLAG_DONE) !== 0) this.#finish(cookie.low, pending);
  }

  async #data(pending: Pending, length: number): Promise<void> {
    const { reader } = this.#shaken;
    if (length < 8) throw new ProtocolError('data without an offset');
    const offset = readU64(viewOf(await reader.read(8)), 0);
    const part = partOf(pending, offset, length - 8);
    await reader.readInto(part);
    pending.filled += part.length;
  }

  #status(pending: Pending, content: Uint8Array): void {
    const view = viewOf(content);
    if (pending.type !== NBD_CMD_BLOCK_STATUS || content.length < 12 || content.length % 8 !== 4) {
      throw new ProtocolError('runs of a wrong form');
    }
    if (view.getUint32(0) !== this.details.allocationId) return;
    const descriptors: Descriptor[] = [];
    for (let at = 4; at < content.length; at += 8) {
      const length = view.getUint32(at);
      if (length === 0) throw new ProtocolError('a run without bytes');
      descriptors.push({ length, flags: view.getUint32(at + 4) });
    }
    pending.descriptors = descriptors;
  }

  #finish(cookie: number, pending: Pending): void {
    const { type, length, filled, errno, descriptors, resolve, reject } = pending;
    if (errno === undefined && type === NBD_CMD_READ && filled !== length) {
      // As a broken connection: who sends half of it may send anything.
      throw new ProtocolError(`${filled} bytes of ${length} came`);
    }
    this.#pending.delete(cookie);
    if (errno === undefined) resolve(descriptors);
    else reject(new RequestFailed(errno));
  }
}

/** Where in the target the bytes of a chunk go. */
function partOf({ type, target, offset: start }: Pending, offset: number, length: number) {
  const at = offset - start;
  const fits = target !== undefined && at >= 0 && at + length <= target.length;
  if (type !== NBD_CMD_READ || !fits) throw new ProtocolError('data that was not asked for');
  return target.subarray(at, at + length);
}

function hole(pending: Pending, content: Uint8Array): void {
  if (content.length !== 12) throw new ProtocolError('a hole of a wrong form');
  const view = viewOf(content);
  const part = partOf(pending, readU64(view, 0), view.getUint32(8));
  part.fill(0);
  pending.filled += part.length;
}
