// What a server sends back, in the form that was agreed on.

import type { Negotiated } from './negotiation.ts';
import {
  dataChunk,
  emptyChunk,
  errorChunk,
  holeChunk,
  type Request,
  simpleReply,
  wireError,
} from './requests.ts';
import { NBD_REPLY_TYPE_NONE } from './spec.ts';
import type { StreamWriter } from './stream-writer.ts';

export type Sent = () => void;

/** A part of what was read; without bytes it is zeros. */
export interface ReadPart {
  readonly offset: number;
  readonly length: number;
  readonly bytes: Uint8Array | undefined;
}

export class Replies {
  readonly #writer: StreamWriter;
  readonly structured: boolean;

  constructor({ writer, structured }: Pick<Negotiated, 'writer' | 'structured'>) {
    this.#writer = writer;
    this.structured = structured;
  }

  /** Done, and nothing to tell. */
  done({ cookie }: Request, sent: Sent): void {
    this.#writer.write([simpleReply(cookie, 0)], sent);
  }

  error({ cookie }: Request, errno: string, message: string, sent: Sent): void {
    const error = wireError(errno);
    const reply = this.structured ? errorChunk(cookie, error, message) : simpleReply(cookie, error);
    this.#writer.write([reply], sent);
  }

  /** All that was read, as one piece. */
  data({ cookie, offset, length }: Request, bytes: Uint8Array, sent: Sent): void {
    if (!this.structured) this.#writer.write([simpleReply(cookie, 0), bytes], sent);
    else if (length === 0) this.#writer.write([emptyChunk(cookie, NBD_REPLY_TYPE_NONE)], sent);
    else this.#writer.write([dataChunk(cookie, offset, length, true), bytes], sent);
  }

  /** Structured: the parts touch each other and are all of the request. */
  parts({ cookie }: Request, parts: readonly ReadPart[], sent: Sent): void {
    const pieces = parts.flatMap(({ offset, length, bytes }, i) => {
      const isLast = i === parts.length - 1;
      if (bytes === undefined) return [holeChunk(cookie, offset, length, isLast)];
      return [dataChunk(cookie, offset, length, isLast), bytes];
    });
    this.#writer.write(pieces, sent);
  }

  /** Chunks as they are. */
  chunks(chunks: readonly Uint8Array[], sent: Sent): void {
    this.#writer.write(chunks, sent);
  }
}
