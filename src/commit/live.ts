// The intermediate commit in an open chain: base is filled from the layers above it while the guest
// reads and writes through the active one. What is copied is hidden by the layers above as long as
// they stand there, so the guest's view stays whatever stops us; and these layers don't change, so
// what they hold can be planned window by window.

import { allocatedIn } from '../chain/extents.ts';
import { type Relink, relink } from '../chain/relink.ts';
import { ImageError } from '../errors.ts';
import type { Layer } from '../layer.ts';
import { alignDown, MIB } from '../units.ts';
import { cutAt, fill } from './copy.ts';
import type { Operation } from './job.ts';
import { type Piece, type PlanStep, planSteps, shapeOf, split } from './plan.ts';

/** What is copied at a time, in bytes: between two pieces the job can rest or end. */
const DEFAULT_PIECE = MIB / 2;
/** Zeros cost little: so many bytes of them at a time. */
const ZEROS = 64 * MIB;
/** Planned at a time: what it holds is looked up without a rest. */
const WINDOW = 256 * MIB;

export interface LiveSource {
  /** From top down to the one above base. */
  readonly layers: readonly Layer[];
  readonly base: Layer;
  /** Bytes of the longest disk that will stand on base; asked for at the end. */
  readonly longest: () => number;
  /** What is copied at a time, in bytes, or a cluster of base. Default 512 KiB. */
  readonly pieceBytes?: number | undefined;
}

/** Who drives the work: lets it wait, hears how far it is, and decides what an error means. */
export interface LiveControl {
  /** Before each piece: resolves when it is its turn; to false where the work shall end. */
  turn(): Promise<boolean>;
  /** Bytes were copied: these count for the speed. */
  charge(bytes: number): void;
  /** So many more bytes of the disk are done, copied or not. */
  progress(bytes: number): void;
  /** A piece could not be read or written: true, it is tried again; false, the work fails. */
  failed(error: ImageError, operation: Operation): Promise<boolean>;
}

/** Bytes that the job goes through. */
export function lengthOf({ layers }: LiveSource): number {
  return layers[0]?.size ?? 0;
}

/**
 * Has base hold, durably, what the layers above it hold. False where it was told to end before; base
 * is consistent then, too. Rejects with the error that was not to be borne.
 */
export async function fillBase(source: LiveSource, control: LiveControl): Promise<boolean> {
  let isFilled = false;
  try {
    isFilled = await new Filler(source, control).run();
    return isFilled;
  } finally {
    // Where it ends early this keeps what was copied, as far as that can be.
    if (!isFilled) await source.base.flush().catch(() => undefined);
  }
}

/**
 * The overlays come to stand on base: durable first what they will read there, then each header and,
 * while nobody reads through it, the open layer; `moved` hears of each. What fails leaves that overlay,
 * and those after it, where they were; either way each shows what it showed.
 */
export async function handOver(
  base: Layer,
  relinks: readonly Relink[],
  moved: (overlay: Layer) => void,
): Promise<void> {
  await base.flush();
  for (const each of relinks) {
    await relink(each, base);
    moved(each.overlay);
  }
}

/** An error, and what it happened at. */
class PieceError extends Error {
  readonly operation: Operation;
  readonly error: unknown;

  constructor(operation: Operation, error: unknown) {
    super('a piece failed');
    this.operation = operation;
    this.error = error;
  }
}

class Filler {
  readonly #source: LiveSource;
  readonly #control: LiveControl;
  readonly #pieceBytes: number;
  readonly #buffer: Uint8Array;
  /** Everything before is done. */
  #done = 0;

  constructor(source: LiveSource, control: LiveControl) {
    this.#source = source;
    this.#control = control;
    this.#pieceBytes = source.pieceBytes ?? DEFAULT_PIECE;
    this.#buffer = new Uint8Array(this.#pieceBytes);
  }

  async run(): Promise<boolean> {
    const { base, longest } = this.#source;
    const length = lengthOf(this.#source);
    if (base.size < length) await base.grow(length, { keepsInconsistent: true });
    while (this.#done < length) {
      const end = Math.min(length, alignDown(this.#done, WINDOW) + WINDOW);
      if (!(await this.#window(end))) return false;
    }
    // A longer overlay saw zeros past top's end; base must not shine through there.
    const end = Math.min(base.size, longest());
    if (!(await this.#zero(length, end))) return false;
    if (!(await this.#control.turn())) return false;
    await base.flush();
    return true;
  }

  /** False, here and below, where it was told to end. */
  async #window(end: number): Promise<boolean> {
    let batches = this.#plan(end);
    for (;;) {
      if (!(await this.#control.turn())) return false;
      let next: IteratorResult<readonly PlanStep[]>;
      try {
        next = await batches.next();
      } catch (error) {
        await this.#bear(error, 'read');
        batches = this.#plan(end);
        continue;
      }
      if (next.done === true) break;
      for (const step of next.value) {
        const { offset, length } = step;
        const isDone =
          step.kind === 'zero'
            ? await this.#zero(offset, offset + length)
            : await this.#copy(step.pieces, offset + length);
        if (!isDone) return false;
      }
    }
    this.#reach(end);
    return true;
  }

  #plan(end: number): AsyncGenerator<readonly PlanStep[]> {
    const { layers, base } = this.#source;
    const from = this.#done;
    return planSteps(allocatedIn(layers, from, end - from), shapeOf(base, base.size));
  }

  async #zero(start: number, end: number): Promise<boolean> {
    for (let at = start; at < end; ) {
      const count = Math.min(ZEROS, end - at);
      const from = at;
      if (!(await this.#piece(() => this.#source.base.zero(from, count)))) return false;
      at += count;
      this.#reach(at);
    }
    return true;
  }

  async #copy(pieces: readonly Piece[], end: number): Promise<boolean> {
    const { base } = this.#source;
    let left = pieces;
    for (let at = pieces[0]?.offset ?? end; at < end; ) {
      const cut = cutAt(at, end, base.clusterSize, this.#pieceBytes);
      const [now, later] = split(left, cut);
      const count = cut - at;
      if (!(await this.#piece(() => this.#move(now, count)))) return false;
      this.#control.charge(count);
      at = cut;
      left = later;
      this.#reach(at);
    }
    return true;
  }

  #reach(at: number): void {
    const end = Math.min(at, lengthOf(this.#source));
    if (end > this.#done) this.#control.progress(end - this.#done);
    this.#done = Math.max(this.#done, end);
  }

  /** Again and again, as long as its errors are to be borne. */
  async #piece(work: () => Promise<void>): Promise<boolean> {
    for (;;) {
      if (!(await this.#control.turn())) return false;
      try {
        await work();
        return true;
      } catch (error) {
        if (error instanceof PieceError) await this.#bear(error.error, error.operation);
        else await this.#bear(error, 'write');
      }
    }
  }

  async #bear(error: unknown, operation: Operation): Promise<void> {
    if (!(error instanceof ImageError)) throw error;
    if (!(await this.#control.failed(error, operation))) throw error;
  }

  /** Inside the machine where the bytes lie in one piece in a file, or else through the buffer. */
  async #move(pieces: readonly Piece[], length: number): Promise<void> {
    const { base } = this.#source;
    const [first] = pieces;
    if (first === undefined) return;
    if (pieces.length === 1 && first.kind === 'data' && first.host !== null) {
      try {
        return await base.writeFrom(first.offset, first.host, length);
      } catch (error) {
        // Which side it was is seen when the bytes are read by themselves.
        await this.#read(pieces, length);
        throw error;
      }
    }
    await base.write(first.offset, await this.#read(pieces, length));
  }

  async #read(pieces: readonly Piece[], length: number): Promise<Uint8Array> {
    const start = pieces[0]?.offset ?? 0;
    // A piece is longer where base's clusters are.
    const buffer = this.#buffer;
    const bytes = length <= buffer.length ? buffer.subarray(0, length) : new Uint8Array(length);
    try {
      for (const piece of pieces) {
        const from = piece.offset - start;
        await fill(piece, bytes.subarray(from, from + piece.length));
      }
    } catch (error) {
      throw new PieceError('read', error);
    }
    return bytes;
  }
}
