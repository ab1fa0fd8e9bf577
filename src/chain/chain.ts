// Chain: layers from the top (the disk as the guest sees it) down to the deepest base.

import { ImageError } from '../errors.ts';
import type { Host } from '../io/host.ts';
import type { Extent, Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { checkOffset } from '../units.ts';
import { type BlockStatus, blockStatus } from './block-status.ts';
import { hostFileOf, protocolOf, resolveName } from './filename.ts';

export interface ChainLayer {
  readonly layer: Layer;
  /** The host file, as resolved, whatever stands on it; without one, the name. */
  readonly filename: string;
  /** What opens the same image again: the host file's name, or a `json:{...}` one. */
  readonly name: string;
  /** What holds its bytes: the host file, where nothing of another kind stands between. */
  readonly fileName: string;
  /** The name as its overlay stores it, or as the user gave it. */
  readonly storedName: string;
  /** True where the format came from the header or the user; false where it was probed. */
  readonly formatKnown: boolean;
  /** Same for two names of one file. */
  readonly id: string;
}

export class Chain {
  /** Top first. */
  readonly layers: readonly ChainLayer[];
  readonly #host: Host;

  constructor(layers: readonly ChainLayer[], host: Host) {
    this.layers = layers;
    this.#host = host;
  }

  get top(): Layer {
    return this.at(0).layer;
  }

  /** Size of the guest's disk in bytes. */
  get size(): number {
    return this.top.size;
  }

  at(index: number): ChainLayer {
    const layer = this.layers[index];
    if (layer === undefined) throw new ImageError('invalid', `The chain has no layer ${index}`);
    return layer;
  }

  /** Fills `target` with the guest's view through the top. */
  read(offset: number, target: Uint8Array): Promise<void> {
    return this.top.read(offset, target);
  }

  /** Writes into the top layer. The chain must have been opened with `writable`. */
  write(offset: number, source: Uint8Array): Promise<void> {
    return this.top.write(offset, source);
  }

  /** Makes a range of the guest's view read as zeros, in the top layer. */
  zero(offset: number, length: number): Promise<void> {
    return this.top.zero(offset, length);
  }

  /** What the top layer itself says about a range: see `Layer.extents`. */
  extents(offset: number, length: number): Promise<readonly Extent[]> {
    return this.top.extents(offset, length);
  }

  /**
   * What the chain as a whole says about a range, in order and without gaps: which layer decides,
   * what the guest sees, where the bytes lie. The range must lie inside the disk.
   */
  status(offset = 0, length = this.size - offset): AsyncGenerator<BlockStatus> {
    checkOffset(offset, 'offset');
    checkOffset(length, 'length');
    if (offset + length > this.size) {
      const range = `${offset}+${length}`;
      throw new ImageError('invalid', `Range ${range} is outside of the disk (${this.size} bytes)`);
    }
    const layers = this.layers.map(({ layer }) => layer);
    return blockStatus(layers, offset, length);
  }

  flush(): Promise<void> {
    return this.top.flush();
  }

  /** Bytes `0 .. size` of the guest's view in pieces; a convenience for copies and hashes. */
  async *view(pieceBytes = 1024 * 1024): AsyncGenerator<Uint8Array> {
    for (let offset = 0; offset < this.size; offset += pieceBytes) {
      const piece = new Uint8Array(Math.min(pieceBytes, this.size - offset));
      await this.read(offset, piece);
      yield piece;
    }
  }

  /**
   * Index of the layer below the top that `name` means, as `-b` takes it: for plain paths the real
   * path, `name` relative to the directory of each overlay in turn; an exact string where a
   * protocol is involved. Undefined if there is none.
   */
  async find(name: string): Promise<number | undefined> {
    for (let i = 1; i < this.layers.length; i++) {
      const { storedName, filename } = this.at(i);
      if (protocolOf(name) !== null || protocolOf(storedName) !== null) {
        if (name === storedName) return i;
        continue;
      }
      const candidate = resolveName(this.at(i - 1).filename, name);
      if ((await this.#host.realPath(candidate)) === (await this.#host.realPath(filename))) {
        return i;
      }
    }
    return undefined;
  }

  /** The same with `name` relative to the working directory; the top counts too. */
  async findByPath(name: string): Promise<number | undefined> {
    const protocol = protocolOf(name);
    if (protocol !== null && protocol !== 'file') return undefined;
    const wanted = await this.#host.identify(hostFileOf(name));
    const index = this.layers.findIndex(({ id }) => id === wanted?.id);
    return index < 0 ? undefined : index;
  }

  /** Flushes what was written and closes all layers; the first error is thrown at the end. */
  async close(): Promise<void> {
    const errors: unknown[] = [];
    for (const { layer } of this.layers) {
      await layer.close().catch((error: unknown) => errors.push(error));
    }
    if (errors.length > 0) throw errors[0];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** The layer as a qcow2 image; throws where it is a raw one. */
export function asQcow2(layer: Layer): Qcow2Image {
  if (layer instanceof Qcow2Image) return layer;
  throw new ImageError('invalid', `${layer.filename} is not a qcow2 image`);
}
