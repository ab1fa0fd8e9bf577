// A storage whose changes stay in memory: what would be written, looked at before it is.

import { FilterStorage } from './filter.ts';
import type { Storage, StorageExtent } from './storage.ts';

/** Changes are kept in pieces of this size: changes of tables are small. */
const PIECE = 4096;

export class OverlayStorage extends FilterStorage {
  readonly #pieces = new Map<number, Uint8Array>();
  #size: number;
  /** Bytes of the storage below that can be seen: it may have become shorter for a while. */
  #below: number;

  constructor(below: Storage) {
    super(below);
    this.#size = below.size;
    this.#below = below.size;
  }

  override get size(): number {
    return this.#size;
  }

  override get writable(): boolean {
    return true;
  }

  override async read(offset: number, target: Uint8Array): Promise<void> {
    const inside = Math.max(0, Math.min(target.length, this.#below - offset));
    target.fill(0, inside);
    if (inside > 0) await super.read(offset, target.subarray(0, inside));
    for (const [at, from, to] of pieces(offset, target.length)) {
      const piece = this.#pieces.get(at);
      if (piece !== undefined) target.set(piece.subarray(from - at, to - at), from - offset);
    }
  }

  override async write(offset: number, source: Uint8Array): Promise<void> {
    for (const [at, from, to] of pieces(offset, source.length)) {
      const piece = this.#pieces.get(at) ?? (await this.#keep(at));
      piece.set(source.subarray(from - offset, to - offset), from - at);
    }
    this.#size = Math.max(this.#size, offset + source.length);
  }

  /** A piece as it is, from now on in memory. */
  async #keep(at: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(PIECE);
    await this.read(at, bytes);
    // Another write to the same piece may have come first.
    const piece = this.#pieces.get(at) ?? bytes;
    this.#pieces.set(at, piece);
    return piece;
  }

  override async zero(offset: number, length: number): Promise<void> {
    for (const [, from, to] of pieces(offset, length)) {
      await this.write(from, new Uint8Array(to - from));
    }
  }

  override async discard(): Promise<void> {}

  override async copyFrom(): Promise<number> {
    return 0;
  }

  override async extentAt(offset: number): Promise<StorageExtent> {
    const at = offset - (offset % PIECE);
    const end = Math.min(this.#size, at + PIECE);
    if (this.#pieces.has(at)) return { data: true, end };
    if (offset >= this.#below) return { data: false, end };
    const extent = await super.extentAt(offset);
    // What was changed further on is data.
    return { data: extent.data, end: Math.min(extent.end, end) };
  }

  async allocate(): Promise<boolean> {
    return false;
  }

  override async flush(): Promise<void> {}

  override async resize(size: number): Promise<void> {
    if (size < this.#size) {
      this.#below = Math.min(this.#below, size);
      for (const [at, piece] of this.#pieces) {
        if (at >= size) this.#pieces.delete(at);
        else if (at + PIECE > size) piece.fill(0, size - at);
      }
    }
    this.#size = size;
  }

  override async makeWritable(): Promise<void> {}
}

/** The pieces that a range lies in: where each starts, and the part of it that is meant. */
function* pieces(
  offset: number,
  length: number,
): Generator<readonly [at: number, from: number, to: number]> {
  const end = offset + length;
  for (let at = offset - (offset % PIECE); at < end; at += PIECE) {
    yield [at, Math.max(at, offset), Math.min(at + PIECE, end)];
  }
}
