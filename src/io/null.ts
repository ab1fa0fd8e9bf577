// A storage without content: what is written is gone, what is read are zeros. For measuring, and
// as a base of nothing.

import { ImageError } from '../errors.ts';
import type { Storage, StorageExtent } from './storage.ts';

export interface NullOptions {
  readonly size: number;
  readonly writable: boolean;
  /** Says of itself that it reads as zeros, so that nobody needs to read it. */
  readonly readZeroes?: boolean;
  /** Waited for before each request is answered. */
  readonly delay?: (() => Promise<void>) | undefined;
}

export const NULL_NAME = 'null-co://';

export class NullStorage implements Storage {
  readonly filename = NULL_NAME;
  readonly resizable = false;
  readonly growsZeroed = false;
  readonly size: number;
  readonly #readZeroes: boolean;
  readonly #delay: () => Promise<void>;
  #writable: boolean;

  constructor({ size, writable, readZeroes = false, delay = async () => {} }: NullOptions) {
    this.size = size;
    this.#writable = writable;
    this.#readZeroes = readZeroes;
    this.#delay = delay;
  }

  get writable(): boolean {
    return this.#writable;
  }

  async read(_offset: number, target: Uint8Array): Promise<void> {
    await this.#delay();
    target.fill(0);
  }

  async write(offset: number, source: Uint8Array): Promise<void> {
    await this.#change(offset + source.length);
  }

  async zero(offset: number, length: number): Promise<void> {
    await this.#change(offset + length);
  }

  async discard(): Promise<void> {
    await this.#change(0);
  }

  async copyFrom(_source: Storage, _from: number, to: number, length: number): Promise<number> {
    await this.#change(to + length);
    return length;
  }

  async extentAt(): Promise<StorageExtent> {
    return { data: !this.#readZeroes, end: this.size };
  }

  async allocatedBytes(): Promise<number> {
    return 0;
  }

  async flush(): Promise<void> {
    await this.#delay();
  }

  async resize(): Promise<void> {
    throw new ImageError('invalid', `'${this.filename}' has a fixed size`);
  }

  async lock(): Promise<void> {}

  async makeWritable(): Promise<void> {
    this.#writable = true;
  }

  async close(): Promise<void> {}

  async #change(end: number): Promise<void> {
    if (!this.#writable) {
      throw new ImageError('read-only', `'${this.filename}' is open for reading only`, {
        errno: 'EBADF',
      });
    }
    if (end > this.size) {
      throw new ImageError('no-space', `'${this.filename}' ends at ${this.size}`, {
        errno: 'ENOSPC',
      });
    }
    await this.#delay();
  }
}
