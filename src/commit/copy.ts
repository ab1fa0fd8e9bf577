// Carries a plan out: reads from the layers, writes into base, several steps at once, within the
// rate, stopping between steps.

import type { RateLimit } from '../io/throttle.ts';
import type { Layer, PlacedRange } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { alignDown, MIB } from '../units.ts';
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
/** Ranges whose extents are shared in one go, which nothing else interrupts. */
const CLONED_TOGETHER = 16384;
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
      for (const step of steps) await carrier.take(step);
    }
    await carrier.cloneGathered();
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
  #canClone = false;
  #gathered: { readonly step: PlanStep; readonly placed: readonly PlacedRange[] }[] = [];
  /** Of all that is gathered. */
  #ranges = 0;

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
    const placed = this.#mayClone ? placedIn(step) : undefined;
    if (placed === undefined) return this.#issue(step);
    this.#gathered.push({ step, placed });
    this.#ranges += placed.length;
    // What is refused has got its places already: the first attempt is a small one.
    if (this.#ranges >= (this.#canClone ? CLONED_TOGETHER : 1)) await this.cloneGathered();
  }

  get #mayClone(): boolean {
    if (this.#refusals >= MAX_REFUSALS || this.#options.rateLimit.rate > 0) return false;
    return !this.#compressing && this.#base.cloneRanges !== undefined;
  }

  /** Shares the extents of what waits, all at once; what base can't share is copied. */
  async cloneGathered(): Promise<void> {
    const gathered = this.#gathered;
    if (gathered.length === 0) return;
    this.#gathered = [];
    this.#ranges = 0;
    this.#stop.throwIfAborted();
    let left = await this.#cloned(gathered.flatMap(({ placed }) => placed));
    let done = 0;
    let bytes = 0;
    for (const { step, placed } of gathered) {
      left -= placed.length;
      if (left < 0) break;
      done++;
      bytes += step.length;
    }
    this.#refusals = done === 0 ? this.#refusals + 1 : 0;
    this.#canClone ||= done > 0;
    if (bytes > 0) this.#options.meter.add(bytes);
    // What is done of a step that is not whole is done again with it.
    for (const { step } of gathered.slice(done)) await this.#issue(step);
  }

  /** How many of the ranges are cloned, from the first on; base may take them in parts. */
  async #cloned(ranges: readonly PlacedRange[]): Promise<number> {
    for (let done = 0; ; ) {
      const more = (await this.#base.cloneRanges?.(ranges.slice(done))) ?? 0;
      done += more;
      if (more === 0 || done === ranges.length) return done;
      this.#stop.throwIfAborted();
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

async function fill(piece: Piece, target: Uint8Array): Promise<void> {
  if (piece.kind === 'zero') target.fill(0);
  else if (piece.host) {
    const { storage, offset } = piece.host;
    storage.event?.('read_aio');
    await storage.read(offset, target);
  } else await piece.layer.read(piece.offset, target);
}

/** The pieces of a step, if all lie as they are in files. */
function placedIn(step: PlanStep): readonly PlacedRange[] | undefined {
  if (step.kind !== 'copy') return undefined;
  return step.pieces.every(isPlaced) ? step.pieces : undefined;
}

function isPlaced(piece: Piece): piece is Piece & PlacedRange {
  return piece.kind === 'data' && piece.host !== null;
}

/** Where a copy that starts at `at` ends: at the step's end, or after about `most` bytes. */
function cutAt(at: number, end: number, clusterSize: number, most: number | undefined): number {
  if (most === undefined) return end;
  const border = alignDown(at + most, clusterSize);
  return Math.min(end, border > at ? border : at + Math.max(most, clusterSize));
}
