// Where an image shows its backing file, and the new one may show something else: the pieces that
// have to be read to know. What both have from the same layer, or as zeros, is not among them. Reads
// maps alone.

import { StatusCursor } from '../chain/block-status.ts';
import type { ChainLayer } from '../chain/chain.ts';
import { protocolOf } from '../chain/filename.ts';
import type { Extent } from '../layer.ts';
import type { Qcow2Image } from '../qcow2/image.ts';
import { alignDown, alignUp, MIB } from '../units.ts';
import { mapError, readError, type Side } from './rebase-errors.ts';

/** Whole units of the image, or up to the end of its disk. */
export interface RebasePiece {
  readonly offset: number;
  readonly length: number;
  /** The side reads as zeros, by its maps. */
  readonly oldIsZero: boolean;
  readonly newIsZero: boolean;
}

/** What is below the image; top first, empty for nothing. */
export interface Sides {
  readonly old: readonly ChainLayer[];
  readonly new: readonly ChainLayer[];
}

/** An unallocated range of the image, or part of one, and its pieces. */
export interface Stretch {
  readonly offset: number;
  readonly length: number;
  readonly pieces: readonly RebasePiece[];
  /** It goes on where the one before ended, so that the image's map tells of both as one range. */
  readonly continues: boolean;
}

/** Pieces are read into buffers of this size, or of one unit where that is more. */
const PIECE = MIB;
/** Looked through in one go, so that a caller hears of it now and then. */
const STRETCH = 64 * MIB;

/** In the order of the disk. */
export async function* stretchesOf(
  overlay: Qcow2Image,
  sides: Sides,
  signal: AbortSignal | undefined,
): AsyncGenerator<Stretch> {
  const comparing = new Comparing(overlay, sides);
  let last: Extent | undefined;
  for (let at = 0; at < overlay.size; ) {
    const extents = await overlay.extents(at, overlay.size - at).catch((error: unknown) => {
      throw mapError(error);
    });
    for (const extent of extents) {
      const { kind, offset, length } = extent;
      at = offset + length;
      if (kind !== 'unallocated') continue;
      for (let start = offset; start < at; ) {
        signal?.throwIfAborted();
        const end = Math.min(at, start + STRETCH);
        const continues = start > offset || (last !== undefined && isOneRange(last, extent));
        const pieces = await comparing.pieces(start, end);
        yield { offset: start, length: end - start, pieces, continues };
        start = end;
      }
      last = extent;
    }
  }
}

function isOneRange(a: Extent, b: Extent): boolean {
  if (a.offset + a.length !== b.offset) return false;
  return a.host ? a.host.offset + a.length === b.host?.offset : !b.host;
}

class Comparing {
  readonly #old: View;
  readonly #new: View;
  readonly #unit: number;
  readonly #pieceSize: number;

  constructor(overlay: Qcow2Image, sides: Sides) {
    this.#old = new View(sides.old, 'old');
    this.#new = new View(sides.new, 'new');
    this.#unit = overlay.geometry.subclusterSize;
    this.#pieceSize = Math.max(PIECE, overlay.clusterSize);
  }

  /** Of a range of whole units. */
  async pieces(start: number, end: number): Promise<readonly RebasePiece[]> {
    const pieces = new Pieces(end, this.#unit, this.#pieceSize);
    for (let at = start; at < end; ) {
      const old = await this.#old.at(at, end);
      const now = await this.#new.at(at, old.end);
      if (!isSame(old.from, now.from)) {
        pieces.add(at, now.end, old.from === null, now.from === null);
      }
      at = now.end;
    }
    return pieces.list;
  }
}

/** Rounds ranges to units, and cuts them to pieces. */
class Pieces {
  readonly list: RebasePiece[] = [];
  readonly #limit: number;
  readonly #unit: number;
  readonly #pieceSize: number;
  #end = 0;

  constructor(limit: number, unit: number, pieceSize: number) {
    this.#limit = limit;
    this.#unit = unit;
    this.#pieceSize = pieceSize;
  }

  /** Ranges come in order. What shares a unit with others is read on both sides. */
  add(start: number, end: number, oldIsZero: boolean, newIsZero: boolean): void {
    const bodyStart = alignUp(start, this.#unit);
    const bodyEnd = end === this.#limit ? end : alignDown(end, this.#unit);
    if (start < bodyStart) this.#cut(alignDown(start, this.#unit), bodyStart, false, false);
    this.#cut(bodyStart, bodyEnd, oldIsZero, newIsZero);
    if (bodyEnd < end) this.#cut(bodyEnd, alignUp(end, this.#unit), false, false);
  }

  #cut(from: number, to: number, oldIsZero: boolean, newIsZero: boolean): void {
    const end = Math.min(to, this.#limit);
    for (let offset = Math.max(from, this.#end); offset < end; offset = this.#end) {
      const next = alignDown(offset, this.#pieceSize) + this.#pieceSize;
      this.#end = Math.min(end, next);
      this.#push({ offset, length: this.#end - offset, oldIsZero, newIsZero });
    }
  }

  /** Joined with the one before where they are alike, and fit into one. */
  #push(piece: RebasePiece): void {
    const last = this.list.at(-1);
    const isJoined =
      last !== undefined &&
      last.offset + last.length === piece.offset &&
      piece.offset % this.#pieceSize !== 0 &&
      last.oldIsZero === piece.oldIsZero &&
      last.newIsZero === piece.newIsZero;
    if (isJoined) this.list[this.list.length - 1] = { ...last, length: last.length + piece.length };
    else this.list.push(piece);
  }
}

/** Which layer's bytes a range has, up to `end`; null: zeros. */
interface Source {
  readonly from: ChainLayer | null;
  readonly end: number;
}

/** What one side shows, its end included: behind it there are zeros. */
class View {
  readonly #layers: readonly ChainLayer[];
  readonly #cursor: StatusCursor;
  readonly #side: Side;

  constructor(layers: readonly ChainLayer[], side: Side) {
    this.#layers = layers;
    this.#side = side;
    this.#cursor = new StatusCursor(layers.map(({ layer }) => layer));
  }

  async at(offset: number, end: number): Promise<Source> {
    const size = this.#layers[0]?.layer.size ?? 0;
    if (offset >= size) return { from: null, end };
    const step = await this.#cursor.at(offset, Math.min(end, size)).catch((error: unknown) => {
      throw readError(error, this.#side);
    });
    const from = step.kind === 'data' ? (this.#layers[step.depth] ?? null) : null;
    return { from, end: offset + step.length };
  }
}

function isSame(a: ChainLayer | null, b: ChainLayer | null): boolean {
  if (a === null || b === null) return a === b;
  if (a.layer === b.layer) return true;
  // One file, opened twice: the same bytes where it was opened in the same way.
  const isPlain = protocolOf(a.name) === null && protocolOf(b.name) === null;
  return isPlain && a.id === b.id && a.layer.format === b.layer.format;
}
