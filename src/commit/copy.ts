// Carries a plan out: reads from the layers, writes into base, several steps at once, within the
// rate, stopping between steps.

import type { RateLimit } from '../io/throttle.ts';
import type { Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { alignDown, MIB } from '../units.ts';
import { type Piece, type PlanStep, split } from './plan.ts';
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
      for (const step of steps) await carrier.issue(step);
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

async function fill(piece: Piece, target: Uint8Array): Promise<void> {
  if (piece.kind === 'zero') target.fill(0);
  else if (piece.host) {
    const { storage, offset } = piece.host;
    storage.event?.('read_aio');
    await storage.read(offset, target);
  } else await piece.layer.read(piece.offset, target);
}

/** Where a copy that starts at `at` ends: at the step's end, or after about `most` bytes. */
function cutAt(at: number, end: number, clusterSize: number, most: number | undefined): number {
  if (most === undefined) return end;
  const border = alignDown(at + most, clusterSize);
  return Math.min(end, border > at ? border : at + Math.max(most, clusterSize));
}

/** At most `limit` pieces of work at once; after the first failure nothing more is started. */
class Pool {
  readonly #limit: number;
  readonly #running = new Set<Promise<void>>();
  readonly #failure = new AbortController();

  constructor(limit: number) {
    this.#limit = limit;
  }

  async start(work: () => Promise<void>, done: () => void): Promise<void> {
    while (this.#running.size >= this.#limit) await Promise.race(this.#running);
    this.rethrow();
    const task: Promise<void> = work()
      .then(done, (error: unknown) => {
        if (!this.#failure.signal.aborted) this.#failure.abort(error);
      })
      .finally(() => this.#running.delete(task));
    this.#running.add(task);
  }

  /** Aborted, with the error, when some work fails. */
  get failed(): AbortSignal {
    return this.#failure.signal;
  }

  async drained(): Promise<void> {
    while (this.#running.size > 0) await Promise.race(this.#running);
  }

  rethrow(): void {
    this.#failure.signal.throwIfAborted();
  }
}
