// Carries a plan out: reads from the layers, writes into base, several steps at once, within the
// rate, stopping between steps.

import type { PlacedRanges } from '../io/placed-ranges.ts';
import type { RateLimit } from '../io/throttle.ts';
import type { Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { alignDown, MIB } from '../units.ts';
import { GatheredSteps, type PlacedPiece } from './gathered.ts';
import { type Piece, type PlanStep, split } from './plan.ts';
import { Pool } from './pool.ts';
import type { Meter } from './progress.ts';

export interface CopyOptions {
  readonly meter: Meter;
  readonly rateLimit: RateLimit;
  /** Base stores clusters compressed where that makes them smaller. */
  readonly compress?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Memory in use: so many copies through buffers at once, each of MAX_BUFFERED bytes (plan.ts). */
const IN_FLIGHT = 8;
/** With a rate limit copies go in small pieces, so that the rate holds within each second. */
const LIMITED_PIECE = MIB / 2;
/** What moves in one go: the more, the longer are the pieces that lie together in their files. */
const MOVED_TOGETHER = 65_536;
const MOVED_BYTES = 1024 * MIB;
/** So many refusals in a row, and nobody asks any more: base, or the file systems, can't. */
const MAX_REFUSALS = 3;
/** What is compressed goes through memory; a piece of whole clusters. */
const COMPRESSED_PIECE = MIB;

/**
 * Resolves when all steps are done. On an error or when the signal is aborted no new step starts;
 * it rejects when those in flight have ended.
 */
export async function carryOut(
  plan: AsyncIterable<readonly PlanStep[]> | Iterable<readonly PlanStep[]>,
  base: Layer,
  options: CopyOptions,
): Promise<void> {
  const carrier = new Carrier(base, options);
  try {
    for await (const steps of plan) {
      for (const step of steps) await carrier.take(step);
    }
    await carrier.moveGathered();
  } finally {
    await carrier.pool.drained();
  }
  carrier.pool.rethrow();
}

class Carrier {
  readonly pool = new Pool(IN_FLIGHT);
  readonly #base: Layer;
  readonly #options: CopyOptions;
  readonly #buffers: Uint8Array[] = [];
  /** The caller wants no more, or something has failed. */
  readonly #stop: AbortSignal;
  #refusals = 0;
  #hasMoved = false;
  #gathered = new GatheredSteps();

  constructor(base: Layer, options: CopyOptions) {
    this.#base = base;
    this.#options = options;
    const { failed } = this.pool;
    this.#stop = options.signal ? AbortSignal.any([options.signal, failed]) : failed;
  }

  /** Base, where it is to store clusters compressed. */
  get #compressing(): Qcow2Image | undefined {
    const base = this.#base;
    return this.#options.compress && base instanceof Qcow2Image ? base : undefined;
  }

  /** Steps whose bytes lie as they are in files wait until there are many of them. */
  async take(step: PlanStep): Promise<void> {
    const placed = this.#mayMove ? placedIn(step, this.#base.clusterSize) : undefined;
    if (placed === undefined) return this.#issue(step);
    this.#gathered.add(placed);
    const most = this.#hasMoved ? MOVED_TOGETHER : 1;
    const { ranges, bytes } = this.#gathered;
    if (ranges.length >= most || bytes >= MOVED_BYTES) await this.moveGathered();
  }

  get #mayMove(): boolean {
    if (this.#refusals >= MAX_REFUSALS || this.#options.rateLimit.rate > 0) return false;
    return !this.#compressing && this.#base.moveRanges !== undefined;
  }

  /** Moves what waits, all at once; what base does not take so goes step by step. */
  async moveGathered(): Promise<void> {
    const gathered = this.#gathered;
    if (gathered.ranges.length === 0) return;
    this.#gathered = new GatheredSteps();
    const { meter } = this.#options;
    let untold = 0;
    const moved = (bytes: number): void => {
      untold -= bytes;
      meter.add(bytes);
    };
    const { bytes, rest } = gathered.after(await this.#moveAll(gathered.ranges, moved));
    untold += bytes;
    this.#refusals = bytes === 0 ? this.#refusals + 1 : 0;
    this.#hasMoved ||= bytes > 0;
    if (untold > 0) meter.add(untold);
    // What is done of a step that is not whole is done again with it.
    for (const step of rest) await this.#issue(step);
  }

  /** How many of the ranges are done, from the first on; base may take them in parts. */
  async #moveAll(ranges: PlacedRanges, moved: (bytes: number) => void): Promise<number> {
    for (let done = 0; ; ) {
      this.#stop.throwIfAborted();
      const rest = done === 0 ? ranges : ranges.slice(done);
      const more = (await this.#base.moveRanges?.(rest, { signal: this.#stop, moved })) ?? 0;
      done += more;
      if (more === 0 || done === ranges.length) return done;
    }
  }

  async #issue(step: PlanStep): Promise<void> {
    const { offset, length } = step;
    if (step.kind === 'zero') {
      this.#stop.throwIfAborted();
      await this.pool.start(
        () => this.#base.zero(offset, length),
        () => this.#options.meter.add(length),
      );
      return;
    }
    const { rateLimit } = this.#options;
    let pieces = step.pieces;
    for (let at = offset; at < offset + length; ) {
      this.#stop.throwIfAborted();
      const most = rateLimit.rate > 0 ? LIMITED_PIECE : this.#compressing && COMPRESSED_PIECE;
      const end = cutAt(at, offset + length, this.#base.clusterSize, most);
      const [now, later] = split(pieces, end);
      const count = end - at;
      await rateLimit.take(count, this.#stop);
      await this.pool.start(
        () => this.#copy(now, count),
        () => this.#options.meter.add(count),
      );
      pieces = later;
      at = end;
    }
  }

  async #copy(pieces: readonly Piece[], length: number): Promise<void> {
    const [first] = pieces;
    if (first === undefined) return;
    const base = this.#compressing;
    if (!base && pieces.length === 1 && first.kind === 'data' && first.host !== null) {
      await this.#base.writeFrom(first.offset, first.host, length);
      return;
    }
    const buffer = this.#buffers.pop();
    // A fresh buffer costs more than the copy into it.
    const space = buffer && buffer.length >= length ? buffer : new Uint8Array(length);
    await Promise.all(
      pieces.map((piece) => {
        const from = piece.offset - first.offset;
        return fill(piece, space.subarray(from, from + piece.length));
      }),
    );
    const bytes = space.subarray(0, length);
    await (base
      ? base.writeCompressed(first.offset, bytes)
      : this.#base.write(first.offset, bytes));
    this.#buffers.push(space);
  }
}

/** Fills `target`, as long as the piece. */
export async function fill(piece: Piece, target: Uint8Array): Promise<void> {
  if (piece.kind === 'zero') target.fill(0);
  else if (piece.host) {
    const { storage, offset } = piece.host;
    storage.event?.('read_aio');
    await storage.read(offset, target);
  } else await piece.layer.read(piece.offset, target);
}

/** The pieces of a step, if all lie as they are in files and are whole clusters of base. */
function placedIn(step: PlanStep, clusterSize: number): readonly PlacedPiece[] | undefined {
  if (step.kind !== 'copy') return undefined;
  const isPlaced = (piece: Piece): piece is PlacedPiece =>
    piece.kind === 'data' &&
    piece.host !== null &&
    piece.offset % clusterSize === 0 &&
    piece.length % clusterSize === 0;
  return step.pieces.every(isPlaced) ? step.pieces : undefined;
}

/** Where a copy that starts at `at` ends: at the step's end, or after about `most` bytes. */
export function cutAt(
  at: number,
  end: number,
  clusterSize: number,
  most: number | undefined,
): number {
  if (most === undefined) return end;
  const border = alignDown(at + most, clusterSize);
  return Math.min(end, border > at ? border : at + Math.max(most, clusterSize));
}
