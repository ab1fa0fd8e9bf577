// Compares what an image's old and new backing files show, and brings what differs into the image,
// so that it shows the same over either. Several pieces at once; it stops between pieces.

import { firstDifference, firstNonZero } from '../chain/compare-bytes.ts';
import type { Layer } from '../layer.ts';
import type { Qcow2Image } from '../qcow2/image.ts';
import { Pool } from './pool.ts';
import { readError, type Side, writeError } from './rebase-errors.ts';
import type { RebasePiece, Sides, Stretch } from './rebase-pieces.ts';

/** Memory in use: so many pieces at once, each with a buffer for either side. */
const IN_FLIGHT = 6;

export interface Copied {
  comparedBytes: number;
  copiedBytes: number;
  zeroedBytes: number;
}

/** A range that differs: what it is to hold, or zeros. Valid until the promise of its taker resolves. */
export interface Change {
  readonly kind: 'copy' | 'zero';
  readonly offset: number;
  readonly length: number;
  readonly bytes: Uint8Array;
}

export interface CompareSides {
  readonly overlay: Qcow2Image;
  readonly sides: Sides;
  readonly stretches: AsyncIterable<Stretch> | Iterable<Stretch>;
  readonly signal: AbortSignal | undefined;
  /** Shorter runs of zeros are copied, with 0 all of them. Default: none. */
  readonly sparseSize?: number | undefined;
  /** Gets each change, in no certain order. */
  take(change: Change): Promise<void>;
  /** Told of each range whose pieces are under way, in the order of the disk. */
  passed?(stretch: Stretch): Promise<void>;
}

/** Resolves when all is compared and taken. After an error, or the signal, no new piece starts. */
export async function compareSides(work: CompareSides): Promise<Copied> {
  const { stretches, signal, passed } = work;
  const comparison = new Comparison(work);
  const pool = new Pool(IN_FLIGHT);
  try {
    for await (const stretch of stretches) {
      for (const piece of stretch.pieces) {
        signal?.throwIfAborted();
        await pool.start(
          () => comparison.judge(piece),
          () => undefined,
        );
      }
      await passed?.(stretch);
    }
  } finally {
    await pool.drained();
  }
  pool.rethrow();
  return comparison.copied;
}

class Comparison {
  readonly copied: Copied = { comparedBytes: 0, copiedBytes: 0, zeroedBytes: 0 };
  readonly #work: CompareSides;
  readonly #unit: number;
  readonly #buffers: Uint8Array[] = [];

  constructor(work: CompareSides) {
    this.#work = work;
    this.#unit = work.overlay.geometry.subclusterSize;
  }

  async judge(piece: RebasePiece): Promise<void> {
    const { sides } = this.#work;
    const spaces = [this.#buffer(piece.length), this.#buffer(piece.length)] as const;
    const [old, now] = spaces.map((space) => space.subarray(0, piece.length)) as [
      Uint8Array,
      Uint8Array,
    ];
    await Promise.all([
      readSide(sides.old[0]?.layer, piece.oldIsZero, piece.offset, old, 'old'),
      readSide(sides.new[0]?.layer, piece.newIsZero, piece.offset, now, 'new'),
    ]);
    this.copied.comparedBytes += piece.length;
    if (firstDifference(old, now) !== undefined) {
      const { sparseSize } = this.#work;
      for (const each of changesIn(piece.offset, old, now, this.#unit)) {
        const isData = sparseSize === 0 || each.length < (sparseSize ?? 0);
        await this.#take(isData ? { ...each, kind: 'copy' } : each);
      }
    }
    this.#buffers.push(...spaces);
  }

  async #take(change: Change): Promise<void> {
    await this.#work.take(change);
    if (change.kind === 'zero') this.copied.zeroedBytes += change.length;
    else this.copied.copiedBytes += change.length;
  }

  /** A fresh buffer costs more than what is read into it. */
  #buffer(length: number): Uint8Array {
    const space = this.#buffers.pop();
    return space !== undefined && space.length >= length ? space : new Uint8Array(length);
  }
}

/** Behind the end of a shorter disk, and without one, there are zeros. */
export async function readSide(
  layer: Layer | undefined,
  isZero: boolean,
  offset: number,
  target: Uint8Array,
  which: Side,
): Promise<void> {
  const size = layer === undefined || isZero ? 0 : layer.size;
  const inside = Math.max(0, Math.min(target.length, size - offset));
  target.fill(0, inside);
  if (layer === undefined || inside === 0) return;
  try {
    await layer.read(offset, target.subarray(0, inside));
  } catch (error) {
    throw readError(error, which);
  }
}

/** Units that differ, neighbours of one kind together. */
function* changesIn(
  offset: number,
  old: Uint8Array,
  now: Uint8Array,
  unit: number,
): Generator<Change> {
  let start = 0;
  let kind: Change['kind'] | null = null;
  for (let at = 0; at < old.length; at += unit) {
    const next = kindOf(old.subarray(at, at + unit), now.subarray(at, at + unit));
    if (next === kind) continue;
    if (kind !== null) yield changeOf(kind, offset, old, start, at);
    kind = next;
    start = at;
  }
  if (kind !== null) yield changeOf(kind, offset, old, start, old.length);
}

function kindOf(old: Uint8Array, now: Uint8Array): Change['kind'] | null {
  if (firstDifference(old, now) === undefined) return null;
  return firstNonZero(old) === undefined ? 'zero' : 'copy';
}

function changeOf(
  kind: Change['kind'],
  offset: number,
  old: Uint8Array,
  start: number,
  end: number,
): Change {
  return { kind, offset: offset + start, length: end - start, bytes: old.subarray(start, end) };
}

/** Brings a change into the image: the same bytes that it shows now, from then on its own. */
export async function takeOver(overlay: Qcow2Image, change: Change): Promise<void> {
  const { kind, offset, length, bytes } = change;
  try {
    // In version 2 zeros are the absence of a cluster where nothing is below, which is to change.
    if (kind === 'zero' && overlay.header.version >= 3) await overlay.zero(offset, length);
    else await overlay.write(offset, bytes);
  } catch (error) {
    throw writeError(error);
  }
}
