// What goes out on a stream: pieces in order, those of one turn together, and when they have left.

import type { Duplex } from 'node:stream';

export class StreamWriter {
  readonly #stream: Duplex;
  #corked = false;

  constructor(stream: Duplex) {
    this.#stream = stream;
  }

  /** `sent` is called once the bytes have left this process, or never will. */
  write(pieces: readonly Uint8Array[], sent?: () => void): void {
    const stream = this.#stream;
    if (stream.destroyed || !stream.writable) {
      sent?.();
      return;
    }
    if (!this.#corked) {
      this.#corked = true;
      stream.cork();
      setImmediate(() => {
        this.#corked = false;
        stream.uncork();
      });
    }
    for (const [i, piece] of pieces.entries()) {
      if (i === pieces.length - 1) stream.write(piece, () => sent?.());
      else stream.write(piece);
    }
  }

  /** Resolves when all of it has left, or can't. */
  async drained(): Promise<void> {
    await new Promise<void>((resolve) => this.write([new Uint8Array()], resolve));
  }
}
