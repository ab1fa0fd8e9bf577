// Exact numbers of bytes out of a stream, with a bound for what is kept unread.

import type { Duplex } from 'node:stream';

/** The stream is over, or was given up. */
export class EndOfStream extends Error {}

/** From here on the stream is paused, in bytes. */
const MOST_BUFFERED = 1024 * 1024;

/** One reader at a time. */
export class StreamReader {
  readonly #stream: Duplex;
  #chunks: Uint8Array[] = [];
  #buffered = 0;
  #ended = false;
  #wake: (() => void) | undefined;
  readonly #onData = (chunk: Uint8Array): void => {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    if (this.#buffered >= MOST_BUFFERED) this.#stream.pause();
    this.#wake?.();
  };
  readonly #onEnd = (): void => this.stop();

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on('data', this.#onData);
    for (const event of ['end', 'close', 'error']) stream.on(event, this.#onEnd);
  }

  /** Came in and was not read yet, in bytes. */
  get buffered(): number {
    return this.#buffered;
  }

  /** Whoever reads learns that the stream is over; what came in already can still be read. */
  stop(): void {
    this.#ended = true;
    this.#wake?.();
  }

  /** Leaves the stream to somebody else. Errors stay caught. */
  detach(): void {
    this.#stream.off('data', this.#onData);
    this.#stream.pause();
    this.stop();
  }

  /** The next bytes, if they are there already; else undefined, and nothing is taken. */
  take(length: number): Uint8Array | undefined {
    if (this.#buffered < length) return undefined;
    const [first] = this.#chunks;
    if (first !== undefined && first.length >= length) {
      this.#consume(length);
      return first.subarray(0, length);
    }
    const target = new Uint8Array(length);
    this.#fill(target, 0);
    return target;
  }

  /** The next bytes. Throws `EndOfStream` where they don't come. */
  async read(length: number): Promise<Uint8Array> {
    const there = this.take(length);
    if (there !== undefined) return there;
    const target = new Uint8Array(length);
    await this.readInto(target);
    return target;
  }

  /** Fills `target` as bytes come in. Throws `EndOfStream` where they don't. */
  async readInto(target: Uint8Array): Promise<void> {
    for (let done = this.#fill(target, 0); done < target.length; ) {
      await this.#more();
      done = this.#fill(target, done);
    }
  }

  async skip(length: number): Promise<void> {
    for (let left = length; left > 0; ) {
      if (this.#buffered === 0) await this.#more();
      const count = Math.min(left, this.#chunks[0]?.length ?? 0);
      this.#consume(count);
      left -= count;
    }
  }

  /** Resolves to whether there is more to read. */
  async hasMore(): Promise<boolean> {
    if (this.#buffered > 0) return true;
    try {
      await this.#more();
      return true;
    } catch (error) {
      if (error instanceof EndOfStream) return false;
      throw error;
    }
  }

  /** Resolves when more came in than there was. */
  async #more(): Promise<void> {
    const before = this.#buffered;
    while (this.#buffered === before) {
      if (this.#ended) throw new EndOfStream('the connection ended');
      this.#stream.resume();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }

  /** Copies what is there to `target` from `start` on; returns how far it is filled. */
  #fill(target: Uint8Array, start: number): number {
    let at = start;
    while (at < target.length) {
      const [chunk] = this.#chunks;
      if (chunk === undefined) break;
      const part = chunk.subarray(0, target.length - at);
      target.set(part, at);
      at += part.length;
      this.#consume(part.length);
    }
    return at;
  }

  /** Of the first chunk, or all of it. */
  #consume(length: number): void {
    const [chunk] = this.#chunks;
    if (chunk === undefined || length === 0) return;
    if (length === chunk.length) this.#chunks.shift();
    else this.#chunks[0] = chunk.subarray(length);
    this.#buffered -= length;
    if (this.#buffered < MOST_BUFFERED && this.#stream.isPaused()) this.#stream.resume();
  }
}
