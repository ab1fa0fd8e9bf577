// From what the layers above hold to what has to be done to base: copies and zeros, in guest order,
// shaped to base's clusters. Pure: it reads no data and changes nothing.

import type { SourceExtent } from '../chain/extents.ts';
import type { Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { alignDown, alignUp, MIB } from '../units.ts';

/** Bytes of a copy: from a layer, or zeros that are written as data. Gapless, in order. */
export type Piece = SourceExtent;

export type PlanStep =
  | { readonly kind: 'zero'; readonly offset: number; readonly length: number }
  | {
      readonly kind: 'copy';
      readonly offset: number;
      readonly length: number;
      readonly pieces: readonly Piece[];
    };

export interface PlanShape {
  /** Cluster size of base in bytes. */
  readonly clusterSize: number;
  /** What base can make zeros without writing them: its clusters, or the parts that these have. */
  readonly zeroUnit: number;
  /** Size that base's disk will have: a range that ends here ends its last cluster. */
  readonly diskSize: number;
}

export function shapeOf(base: Layer, diskSize: number): PlanShape {
  const { clusterSize } = base;
  const zeroUnit = base instanceof Qcow2Image ? base.geometry.subclusterSize : clusterSize;
  return { clusterSize, zeroUnit, diskSize };
}

/** Version 2 has no zero clusters: above a backing file, zeros are written. */
export function zerosAreData(base: Layer): boolean {
  return base instanceof Qcow2Image && base.header.version < 3 && base.backing !== null;
}

/** Copies through memory are cut to about this size, at a border of base's clusters. */
export const MAX_BUFFERED = MIB;
/** A copy of one piece that lies in a host file needs no memory and may be long. */
const MAX_DIRECT = 64 * MIB;

/** Turns batches of source extents (ascending, not overlapping) into batches of steps. */
export async function* planSteps(
  source: AsyncIterable<readonly SourceExtent[]>,
  shape: PlanShape,
): AsyncGenerator<readonly PlanStep[]> {
  const planner = new Planner(shape);
  for await (const extents of source) {
    for (const extent of extents) planner.add(extent);
    const steps = planner.take();
    if (steps.length > 0) yield steps;
  }
  planner.finish();
  const steps = planner.take();
  if (steps.length > 0) yield steps;
}

/** The same, until the signal's reason is thrown. */
export async function* untilAborted<T>(
  items: AsyncIterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T> {
  for await (const item of items) {
    signal?.throwIfAborted();
    yield item;
  }
}

/** Nobody adds to it. */
const NONE: Piece[] = [];

class Planner {
  readonly #shape: PlanShape;
  #steps: PlanStep[] = [];
  #pieces: Piece[] = NONE;

  constructor(shape: PlanShape) {
    this.#shape = shape;
  }

  take(): readonly PlanStep[] {
    const steps = this.#steps;
    this.#steps = [];
    return steps;
  }

  add(extent: SourceExtent): void {
    if (extent.kind === 'data') {
      this.#addPiece(extent);
      return;
    }
    // Whole clusters (or subclusters) get a zero flag; the ragged ends are written together with
    // what is beside them.
    const { zeroUnit, diskSize } = this.#shape;
    const end = extent.offset + extent.length;
    const bodyStart = alignUp(extent.offset, zeroUnit);
    const bodyEnd = end >= diskSize ? end : alignDown(end, zeroUnit);
    if (bodyStart >= bodyEnd) {
      this.#addPiece(extent);
      return;
    }
    this.#addZeroPiece(extent.offset, bodyStart);
    this.finish();
    this.#steps.push({ kind: 'zero', offset: bodyStart, length: bodyEnd - bodyStart });
    this.#addZeroPiece(bodyEnd, end);
  }

  #addZeroPiece(start: number, end: number): void {
    if (end > start) this.#addPiece({ kind: 'zero', offset: start, length: end - start });
  }

  #addPiece(piece: Piece): void {
    const last = this.#pieces.at(-1);
    if (last !== undefined && last.offset + last.length !== piece.offset) this.finish();
    const direct = piece.kind === 'data' && piece.host !== null;
    // A long run goes by itself, so that it can be copied without a buffer.
    if (direct && piece.length >= MAX_BUFFERED) {
      const { clusterSize } = this.#shape;
      const start = Math.min(
        this.#pieces.length > 0 ? alignUp(piece.offset, clusterSize) - piece.offset : 0,
        piece.length,
      );
      if (start > 0) this.#addBounded(slice(piece, 0, start));
      this.finish();
      const bodyLength =
        alignDown(piece.offset + piece.length, clusterSize) - (piece.offset + start);
      const body = Math.max(0, bodyLength);
      for (let at = 0; at < body; ) {
        const from = piece.offset + start + at;
        const cut = alignDown(from + MAX_DIRECT, clusterSize) - from;
        this.#push([slice(piece, start + at, Math.min(cut, body - at))]);
        at += Math.min(cut, body - at);
      }
      const rest = piece.length - start - body;
      if (rest > 0) this.#addBounded(slice(piece, start + body, rest));
      return;
    }
    this.#addBounded(piece);
  }

  #addBounded(piece: Piece): void {
    const { clusterSize } = this.#shape;
    let rest: Piece | undefined = piece;
    while (rest !== undefined) {
      const start: number = this.#pieces[0]?.offset ?? rest.offset;
      const limit = Math.max(
        alignDown(start + MAX_BUFFERED, clusterSize),
        alignDown(start, clusterSize) + clusterSize,
      );
      const room: number = limit - rest.offset;
      const part = slice(rest, 0, Math.min(room, rest.length));
      // Most copies have one piece; an array that grows has room for many more.
      if (this.#pieces.length === 0) this.#pieces = [part];
      else this.#pieces.push(part);
      if (rest.length < room) return;
      this.finish();
      rest = rest.length > room ? slice(rest, room, rest.length - room) : undefined;
    }
  }

  /** Ends the copy that is being gathered. */
  finish(): void {
    if (this.#pieces.length === 0) return;
    this.#push(this.#pieces);
    this.#pieces = NONE;
  }

  #push(pieces: readonly Piece[]): void {
    const offset = pieces[0]?.offset ?? 0;
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    this.#steps.push({ kind: 'copy', offset, length, pieces });
  }
}

/** The part of a piece that starts `from` bytes into it. */
export function slice(piece: Piece, from: number, length: number): Piece {
  if (from === 0 && length === piece.length) return piece;
  const offset = piece.offset + from;
  if (piece.kind === 'zero') return { kind: 'zero', offset, length };
  const host = piece.host && { ...piece.host, offset: piece.host.offset + from };
  return { ...piece, offset, length, host };
}

/** What of the pieces lies before `at`, and the rest. */
export function split(pieces: readonly Piece[], at: number): [readonly Piece[], readonly Piece[]] {
  const before: Piece[] = [];
  const after: Piece[] = [];
  for (const piece of pieces) {
    const left = Math.max(0, Math.min(piece.length, at - piece.offset));
    if (left > 0) before.push(slice(piece, 0, left));
    if (left < piece.length) after.push(slice(piece, left, piece.length - left));
  }
  return [before, after];
}
