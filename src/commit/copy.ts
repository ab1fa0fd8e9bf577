// Carries a plan out: reads from the layers, writes into base, several steps at once, within the
// rate, stopping between steps.

import type { Host } from '../io/host.ts';
import type { RateLimit } from '../io/throttle.ts';
import type { Layer } from '../layer.ts';
import { alignDown, MIB } from '../units.ts';
import { type Piece, type PlanStep, slice } from './plan.ts';

/** How far a commit is. All amounts in bytes; what is not allocated above base does not count. */
export interface CommitProgress {
  /** Bytes copied or zeroed so far. */
  readonly done: number;
  /** Bytes that the whole plan copies or zeroes. */
  readonly total: number;
  /** Average bytes per second since the start. */
  readonly rate: number;
  /** Seconds left at that rate; undefined before anything was done. */
  readonly secondsLeft: number | undefined;
}

export interface CopyOptions {
  readonly host: Host;
  readonly total: number;
  readonly rateLimit: RateLimit;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: CommitProgress) => void) | undefined;
}

/** Memory in use: so many copies through buffers at once, each of MAX_BUFFERED bytes (plan.ts). */
const IN_FLIGHT = 8;
/** With a rate limit copies go in small pieces, so that the rate holds within each second. */
const LIMITED_PIECE = MIB / 2;

/**
 * Resolves when all steps are done. On an error or when the signal is aborted no new step starts;
 * it rejects when those in flight have ended.
 */
export async function carryOut(
  plan: AsyncIterable<readonly PlanStep[]>,
  base: Layer,
  options: CopyOptions,
): Promise<void> {
  const started = options.host.now();
  let done = 0;
  const report = (bytes: number): void => {
    done += bytes;
    const seconds = (options.host.now() - started) / 1000;
    const rate = seconds > 0 ? done / seconds : 0;
    const secondsLeft = rate > 0 ? Math.max(0, options.total - done) / rate : undefined;
    options.onProgress?.({ done, total: options.total, rate, secondsLeft });
  };
  const pool = new Pool(IN_FLIGHT);
  try {
    report(0);
    for await (const steps of plan) {
      for (const step of steps) await issue(step, base, options, pool, report);
    }
  } finally {
    await pool.drained();
  }
  pool.rethrow();
}

async function issue(
  step: PlanStep,
  base: Layer,
  options: CopyOptions,
  pool: Pool,
  report: (bytes: number) => void,
): Promise<void> {
  const { signal, rateLimit } = options;
  if (step.kind === 'zero') {
    signal?.throwIfAborted();
    await pool.start(
      () => base.zero(step.offset, step.length),
      () => report(step.length),
    );
    return;
  }
  let pieces = step.pieces;
  for (let at = step.offset; at < step.offset + step.length; ) {
    signal?.throwIfAborted();
    const end = cutAt(at, step.offset + step.length, base.clusterSize, rateLimit.rate > 0);
    const [now, later] = split(pieces, end);
    pieces = later;
    const length = end - at;
    await rateLimit.take(length, signal);
    await pool.start(
      () => copy(now, base),
      () => report(length),
    );
    at = end;
  }
}

/** Where a copy that starts at `at` ends: at the step's end, or earlier while a rate is set. */
function cutAt(at: number, end: number, clusterSize: number, limited: boolean): number {
  if (!limited) return end;
  const border = alignDown(at + LIMITED_PIECE, clusterSize);
  return Math.min(end, border > at ? border : at + LIMITED_PIECE);
}

function split(pieces: readonly Piece[], at: number): [readonly Piece[], readonly Piece[]] {
  const before: Piece[] = [];
  const after: Piece[] = [];
  for (const piece of pieces) {
    const left = Math.max(0, Math.min(piece.length, at - piece.offset));
    if (left > 0) before.push(slice(piece, 0, left));
    if (left < piece.length) after.push(slice(piece, left, piece.length - left));
  }
  return [before, after];
}

async function copy(pieces: readonly Piece[], base: Layer): Promise<void> {
  const [first] = pieces;
  if (first === undefined) return;
  if (pieces.length === 1 && first.kind === 'data' && first.host !== null) {
    await base.writeFrom(first.offset, first.host, first.length);
    return;
  }
  const buffer = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  await Promise.all(
    pieces.map(async (piece) => {
      const from = piece.offset - first.offset;
      const part = buffer.subarray(from, from + piece.length);
      if (piece.kind === 'zero') return;
      if (piece.host) await piece.host.storage.read(piece.host.offset, part);
      else await piece.layer.read(piece.offset, part);
    }),
  );
  await base.write(first.offset, buffer);
}

/** At most `limit` pieces of work at once; after the first failure nothing more is started. */
class Pool {
  readonly #limit: number;
  readonly #running = new Set<Promise<void>>();
  #failed: { readonly error: unknown } | undefined;

  constructor(limit: number) {
    this.#limit = limit;
  }

  async start(work: () => Promise<void>, done: () => void): Promise<void> {
    while (this.#running.size >= this.#limit) await Promise.race(this.#running);
    this.rethrow();
    const task: Promise<void> = work()
      .then(done, (error: unknown) => {
        this.#failed ??= { error };
      })
      .finally(() => this.#running.delete(task));
    this.#running.add(task);
  }

  async drained(): Promise<void> {
    while (this.#running.size > 0) await Promise.race(this.#running);
  }

  rethrow(): void {
    if (this.#failed !== undefined) throw this.#failed.error;
  }
}
