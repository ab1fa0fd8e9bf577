// A file descriptor with a lifetime. Closing waits for the work under way: the kernel gives the
// number of a closed descriptor to the next file, and work that still used it would write there.

import * as fs from 'node:fs';
import { ImageError } from '../errors.ts';

export class Descriptor {
  readonly #filename: string;
  readonly #fd: number;
  #running = 0;
  #closed: Promise<void> | undefined;
  #onIdle: (() => void) | undefined;

  constructor(filename: string, fd: number) {
    this.#filename = filename;
    this.#fd = fd;
  }

  /** The number, for calls that end before anything else runs. Throws once it is closed. */
  get fd(): number {
    if (this.#closed === undefined) return this.#fd;
    throw new ImageError('io', `'${this.#filename}' is closed`, { errno: 'EBADF' });
  }

  async use<T>(work: (fd: number) => Promise<T>): Promise<T> {
    const { fd } = this;
    this.#running++;
    try {
      return await work(fd);
    } finally {
      if (--this.#running === 0) this.#onIdle?.();
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    if (this.#running > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    fs.closeSync(this.#fd);
  }
}
