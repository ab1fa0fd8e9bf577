// What a comparison of two chains has to look at, in the order of the disk: ranges that read as
// zeros on both sides need no reading, the rest comes in pieces small enough for a buffer.

import { ImageError } from '../errors.ts';
import type { Layer } from '../layer.ts';
import { KIB, MIB } from '../units.ts';
import { type StatusStep, statusSteps } from './block-status.ts';
import type { Chain } from './chain.ts';
import { DataBound } from './data-bound.ts';

/** First or second disk. */
export type Side = 0 | 1;

/** Reading failed, on one side: its map (`status`) or its bytes. */
export class CompareError extends ImageError {
  readonly side: Side;
  readonly doing: 'status' | 'read';
  readonly offset: number;

  constructor(error: ImageError, side: Side, doing: 'status' | 'read', offset: number) {
    const { code, message, errno, hint } = error;
    super(code, message, {
      cause: error,
      ...(errno !== undefined && { errno }),
      ...(hint !== undefined && { hint }),
    });
    this.side = side;
    this.doing = doing;
    this.offset = offset;
  }
}

/** QEMU's buffer: it tells errors by where the range starts that it read into it. */
const CHUNK = 2 * MIB;
/** The most that is read at once. */
export const PIECE = 256 * KIB;

/** A range and what has to be looked at: nothing, one side for zeros, both, or nothing any more. */
export interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly read: 'none' | Side | 'both' | 'differs';
  /** Where QEMU's chunk starts that it is part of. */
  readonly chunk: number;
  /** Bytes that are done with when it is: all of the chunk with its last piece, else 0. */
  readonly step: number;
}

/** As much of the range as is dealt with in one go, in pieces small enough to be read at once. */
function* cut(offset: number, length: number, read: Piece['read']): Generator<Piece> {
  if (read === 'none' || read === 'differs') {
    yield { offset, length, read, chunk: offset, step: length };
    return;
  }
  const size = Math.min(length, CHUNK);
  for (let at = 0; at < size; at += PIECE) {
    const isLast = at + PIECE >= size;
    yield {
      offset: offset + at,
      length: isLast ? size - at : PIECE,
      read,
      chunk: offset,
      step: isLast ? size : 0,
    };
  }
}

export interface PieceOptions {
  /** What is allocated where has to be the same, too. */
  readonly strict: boolean;
  /** What is not there is passed in one step, however long. */
  readonly whole: boolean;
}

/** What both disks have. */
export async function* bothPieces(
  [a, b]: readonly [Chain, Chain],
  { strict, whole }: PieceOptions,
): AsyncGenerator<Piece> {
  const common = Math.min(a.size, b.size);
  const haveSameStatus = (stepA: StatusStep, stepB: StatusStep): boolean => {
    // Of steps as long as they come, the longer one may be the first that reaches the end.
    const length = whole ? Math.min(stepA.length, stepB.length) : undefined;
    const asked = (step: StatusStep) => (length === undefined ? step : { ...step, length });
    return statusBits(asked(stepA), a.size) === statusBits(asked(stepB), b.size);
  };
  const walks = [new Walk(a, 0, 0, whole), new Walk(b, 1, 0, whole)] as const;
  for (let offset = 0; offset < common; ) {
    const stepA = await walks[0].at(offset);
    const stepB = await walks[1].at(offset);
    const length = Math.min(stepA.length, stepB.length);
    const differs = strict && !haveSameStatus(stepA, stepB);
    const read = differs ? 'differs' : readingOf(stepA, stepB);
    for (const piece of cut(offset, length, read)) {
      yield piece;
      offset += piece.step;
    }
  }
}

function readingOf(a: StatusStep, b: StatusStep): Piece['read'] {
  if (a.kind !== 'data' && b.kind !== 'data') return 'none';
  if (isAllocated(a) && isAllocated(b)) return 'both';
  return isAllocated(a) ? 0 : 1;
}

/** What one disk has more than the other. */
export async function* tailPieces(
  chain: Chain,
  side: Side,
  start: number,
  whole: boolean,
): AsyncGenerator<Piece> {
  const walk = new Walk(chain, side, start, whole);
  for (let offset = start; offset < chain.size; ) {
    const { kind, length } = await walk.at(offset);
    for (const piece of cut(offset, length, kind === 'data' ? side : 'none')) {
      yield piece;
      offset += piece.step;
    }
  }
}

/** The steps of one chain, cut at the front. */
class Walk {
  readonly #steps: AsyncGenerator<StatusStep>;
  readonly #side: Side;
  readonly #plausible: DataBound;
  #step: StatusStep | undefined;

  constructor(chain: Chain, side: Side, start: number, whole: boolean) {
    const layers: readonly Layer[] = chain.layers.map(({ layer }) => layer);
    this.#steps = statusSteps(layers, start, chain.size - start, { whole });
    this.#plausible = new DataBound(layers);
    this.#side = side;
  }

  async at(offset: number): Promise<StatusStep> {
    const step = this.#step;
    if (step !== undefined && offset < step.offset + step.length) {
      return { ...step, offset, length: step.offset + step.length - offset };
    }
    try {
      const next = await this.#steps.next();
      if (next.done) throw new Error('internal error: the disk has no such offset');
      this.#step = next.value;
      this.#plausible.add(next.value);
      return next.value;
    } catch (error) {
      throw error instanceof ImageError
        ? new CompareError(error, this.#side, 'status', offset)
        : error;
    }
  }
}

/** Some layer has the range; behind the end of a shorter one it counts as that one's. */
function isAllocated({ kind, pastBacking }: StatusStep): boolean {
  return kind !== 'absent' || pastBacking;
}

/** All that strict mode wants to be the same, as one number. */
function statusBits(step: StatusStep, diskSize: number): number {
  const { kind, host, offset, length } = step;
  return (
    (kind === 'data' || kind === 'hole' ? 1 : 0) +
    (kind !== 'data' ? 2 : 0) +
    (host !== null ? 4 : 0) +
    (isAllocated(step) ? 8 : 0) +
    (offset + length === diskSize ? 16 : 0)
  );
}
