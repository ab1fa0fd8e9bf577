// A disk that is in use: what exports serve, over the top layer of a chain. Requests that overlap take
// turns; the layer can be swapped for another one that reads the same, and nobody notices.

import { ImageError } from '../errors.ts';
import type { Layer } from '../layer.ts';
import { RangeLocks } from '../qcow2/mutex.ts';
import { discardIn } from './disk-discard.ts';
import {
  type DepthRun,
  type DirtyRun,
  depthRuns,
  dirtyRuns,
  type StatusRun,
  statusRuns,
} from './disk-status.ts';
import { zeroIn } from './disk-zero.ts';
import { Gate } from './gate.ts';

export interface DiskOptions {
  /** Nobody writes through it, even where the layer can be written. Default: as the layer. */
  readonly readOnly?: boolean;
  /** What is discarded is given back to the machine. Default: discarding does nothing. */
  readonly unmap?: boolean;
}

export interface ChangeOptions {
  /** Durable when it resolves. */
  readonly fua?: boolean;
}

export interface ZeroOptions extends ChangeOptions {
  /** The range need not keep the space that it has. Default true. */
  readonly mayPunch?: boolean;
  /** Rejects with `ENOTSUP` rather than writing zeros as data. */
  readonly fast?: boolean;
}

/**
 * All offsets and lengths are bytes, inside the disk. Failures are `ImageError`s; a change that
 * failed may be done in part.
 */
export class Disk {
  #layer: Layer;
  readonly #locks = new RangeLocks();
  readonly #gate = new Gate();
  readonly #readOnly: boolean;
  readonly #unmap: boolean;
  #flushing: Promise<void> | undefined;
  #nextFlush: Promise<void> | undefined;

  /** The layer, and those below it, stay their owner's, who closes them. */
  constructor(layer: Layer, { readOnly = false, unmap = false }: DiskOptions = {}) {
    this.#layer = layer;
    this.#readOnly = readOnly;
    this.#unmap = unmap;
  }

  get layer(): Layer {
    return this.#layer;
  }

  get size(): number {
    return this.#layer.size;
  }

  get writable(): boolean {
    return !this.#readOnly && this.#layer.writable;
  }

  read(offset: number, target: Uint8Array): Promise<void> {
    return this.#gate.pass(() =>
      this.#locks.shared(offset, offset + target.length, () => this.#layer.read(offset, target)),
    );
  }

  /** In the file when it resolves. `source` is not kept afterwards. */
  write(offset: number, source: Uint8Array, options: ChangeOptions = {}): Promise<void> {
    return this.#change(offset, source.length, options, () => this.#layer.write(offset, source));
  }

  /** Makes the range read as zeros. */
  zero(offset: number, length: number, options: ZeroOptions = {}): Promise<void> {
    const { mayPunch = true, fast = false } = options;
    return this.#change(offset, length, options, () =>
      zeroIn(this.#layer, offset, length, { mayPunch, fast }),
    );
  }

  /** A hint: the range may read as anything afterwards. */
  discard(offset: number, length: number, options: ChangeOptions = {}): Promise<void> {
    return this.#change(offset, length, options, async () => {
      if (this.#unmap) await discardIn(this.#layer, offset, length);
    });
  }

  /** What was resolved before the call is durable when it resolves. */
  flush(): Promise<void> {
    return this.#gate.pass(() => this.#flush());
  }

  /** Where there is data, in the words of the top of the chain; see `statusRuns`. */
  status(offset: number, length: number, most: number): Promise<readonly StatusRun[]> {
    return this.#gate.pass(() => statusRuns(this.#layer, offset, length, most));
  }

  /** Which layers hold the bytes; see `depthRuns`. */
  depths(offset: number, length: number, most: number): Promise<readonly DepthRun[]> {
    return this.#gate.pass(() => depthRuns(this.#layer, offset, length, most));
  }

  /** What a bitmap of the top, or of the first layer below that has one of this name, calls dirty. */
  dirty(
    bitmap: string,
    offset: number,
    length: number,
    most: number,
  ): Promise<readonly DirtyRun[]> {
    // What is written may store bitmaps at another place, and this one must stay while it is read.
    return this.#gate.pass(() =>
      this.#locks.shared(0, Number.POSITIVE_INFINITY, () =>
        dirtyRuns(this.#layer, bitmap, offset, length, most),
      ),
    );
  }

  /**
   * Resolves when nothing is under way any more. Requests that come now wait until the function that
   * it resolves to is called; holds nest.
   */
  hold(): Promise<() => void> {
    return this.#gate.hold();
  }

  /**
   * Goes on with another layer, of the same size and content, between two requests. `before` runs
   * when nothing is under way, on the old layer; where it fails, the old one stays.
   */
  async replace(layer: Layer, before: () => Promise<void> = async () => undefined): Promise<void> {
    const release = await this.hold();
    try {
      if (layer.size !== this.#layer.size) {
        throw new ImageError('invalid', `'${layer.filename}' has another size than the disk`);
      }
      await before();
      this.#layer = layer;
    } finally {
      release();
    }
  }

  async #change(
    offset: number,
    length: number,
    { fua = false }: ChangeOptions,
    work: () => Promise<void>,
  ): Promise<void> {
    await this.#gate.pass(async () => {
      if (!this.writable) {
        throw new ImageError('read-only', 'The disk is read-only', { errno: 'EROFS' });
      }
      await this.#locks.exclusive(offset, offset + length, work);
      if (fua) await this.#flush();
    });
  }

  /** Those that come while one is under way share the next one. */
  #flush(): Promise<void> {
    if (this.#flushing === undefined) return this.#startFlush();
    this.#nextFlush ??= this.#flushing
      .catch(() => undefined)
      .then(() => {
        this.#nextFlush = undefined;
        return this.#startFlush();
      });
    return this.#nextFlush;
  }

  #startFlush(): Promise<void> {
    const flushing = this.#layer.flush().finally(() => {
      if (this.#flushing === flushing) this.#flushing = undefined;
    });
    this.#flushing = flushing;
    return flushing;
  }
}
