// One client of a server, from its first byte to its last, over any stream of bytes.

import type { Duplex } from 'node:stream';
import type { NbdExport, NbdExports } from './export.ts';
import { type Negotiated, Negotiation, type StartTls } from './negotiation.ts';
import { ProtocolError } from './options.ts';
import { EndOfStream } from './stream-reader.ts';
import { type OnMistake, transmit } from './transmission.ts';

export interface ConnectionOptions {
  /** Required of the client, where it is given. */
  readonly startTls?: StartTls;
  /** Hears of mistakes of ours: what is neither a client's fault nor a disk's. */
  readonly onMistake?: OnMistake;
}

export class Connection {
  readonly #stream: Duplex;
  readonly #negotiation: Negotiation;
  readonly #onMistake: OnMistake;
  #negotiated: Negotiated | undefined;

  constructor(
    stream: Duplex,
    exports: NbdExports,
    { startTls, onMistake = () => undefined }: ConnectionOptions = {},
  ) {
    this.#stream = stream;
    this.#onMistake = onMistake;
    // What goes wrong with it, the reader notices.
    stream.on('error', () => undefined);
    this.#negotiation = new Negotiation(stream, exports, startTls);
  }

  /** The export that the client has chosen; undefined before that. */
  get served(): NbdExport | undefined {
    return this.#negotiated?.served;
  }

  /**
   * Serves the client until it leaves, breaks the rules, or `stop` is called; what it asked for is
   * done then. Never rejects. The stream is closed.
   */
  async serve(): Promise<void> {
    try {
      this.#negotiated = await this.#negotiation.run();
      if (this.#negotiated !== undefined) await transmit(this.#negotiated, this.#onMistake);
      await endStream(this.#negotiated?.stream ?? this.#stream);
    } catch (error) {
      // The client is at fault, or gone: others go on.
      if (!(error instanceof ProtocolError || error instanceof EndOfStream)) {
        this.#onMistake(error);
      }
    } finally {
      this.#negotiated?.stream.destroy();
      this.#stream.destroy();
    }
  }

  /** Takes no more requests; `serve` resolves when those that came are answered. */
  stop(): void {
    if (this.#negotiated === undefined) this.#negotiation.stop();
    else this.#negotiated.reader.stop();
  }

  /** At once, answered or not; what is being written is written. */
  destroy(): void {
    this.stop();
    this.#negotiated?.stream.destroy();
    this.#stream.destroy();
  }
}

/** What was written leaves before the end does. */
async function endStream(stream: Duplex): Promise<void> {
  if (stream.destroyed) return;
  await new Promise<void>((resolve) => {
    stream.once('close', resolve);
    stream.end(resolve);
  });
}
