// Carries a plan out: reads from the layers, writes into base, several steps at once, within the
// rate, stopping between steps.

import type { RateLimit } from '../io/throttle.ts';
import type { Layer, PlacedRange } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { alignDown, MIB } from '../units.ts';
import { MAX_BUFFERED, type Piece, type PlanStep, split } from './plan.ts';
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
/** Ranges whose extents are shared in one go, which nothing else interrupts. */
const CLONED_TOGETHER = 256;
/** So many refusals in a row, and nobody asks any more: the file systems can't. */
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
      for (let i = 0; i < steps.length; ) {
        const cloned = await carrier.clone(steps, i);
        for (const step of steps.slice(i + cloned, i + Math.max(1, cloned))) {
          await carrier.issue(step);
        }
        i += Math.max(1, cloned);
      }
    }
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
  #cloned = false;

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

  /**
   * Steps from there on whose bytes lie as they are in files, all at once, where base can share their
   * extents. Resolves to how many are done.
   */
  async clone(steps: readonly PlanStep[], first: number): Promise<number> {
    if (this.#refusals >= MAX_REFUSALS || this.#options.rateLimit.rate > 0) return 0;
    if (this.#compressing || this.#base.cloneRanges === undefined) return 0;
    const ends: number[] = [];
    const ranges: PlacedRange[] = [];
    // What is refused has got its places already: the first attempt is a small one.
    const most = this.#cloned ? CLONED_TOGETHER : 1;
    for (let i = first; i < steps.length && ranges.length < most; i++) {
      const placed = placedIn(steps[i]);
      if (placed === undefined) break;
      ranges.push(...placed);
      ends.push(ranges.length);
    }
    if (ranges.length === 0) return 0;
    this.#stop.throwIfAborted();
    const done = await this.#base.cloneRanges(ranges);
    // What is done of a step that is not whole is done again with it.
    const count = ends.filter((end) => end <= done).length;
    this.#refusals = count === 0 ? this.#refusals + 1 : 0;
    this.#cloned ||= count > 0;
    const bytes = steps.slice(first, first + count).reduce((sum, { length }) => sum + length, 0);
    if (bytes > 0) this.#options.meter.add(bytes);
    return count;
  }

  async issue(step: PlanStep): Promise<void> {
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

export async function fill(piece: Piece, target: Uint8Array): Promise<void> {
  if (piece.kind === 'zero') target.fill(0);
  else if (piece.host) {
    const { storage, offset } = piece.host;
    storage.event?.('read_aio');
    await storage.read(offset, target);
  } else await piece.layer.read(piece.offset, target);
}

/** The pieces of a step, if all lie as they are in files; undefined for long runs, too. */
function placedIn(step: PlanStep | undefined): readonly PlacedRange[] | undefined {
  if (step?.kind !== 'copy' || step.length > MAX_BUFFERED) return undefined;
  const placed: PlacedRange[] = [];
  for (const piece of step.pieces) {
    if (piece.kind !== 'data' || piece.host === null) return undefined;
    placed.push({ offset: piece.offset, length: piece.length, host: piece.host });
  }
  return placed;
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
