// Rate limit: how long bytes have to wait so that no more than so many move per second. Time is cut
// into slices of 100 ms, each with a quota:
//
//   quota   |--------|--------|--------|--------|
//   charged |####|##########|         bytes that go past the quota take up the following slices, and
//                           ^ end     may move when those are over

import { ImageError } from '../errors.ts';
import type { Host } from './host.ts';

export const SLICE_MS = 100;
/** Timers of 2^31 ms and more end at once. */
const LONGEST_SLEEP_MS = 3_600_000;

export interface ThrottleState {
  /** Start of the first slice that the bytes below take up, in milliseconds of the clock. */
  readonly sliceStart: number;
  /** Bytes charged since then; may exceed the quota, and then take up later slices too. */
  readonly charged: number;
}

export const INITIAL: ThrottleState = { sliceStart: Number.NEGATIVE_INFINITY, charged: 0 };

/** Bytes per slice. */
export function quotaOf(bytesPerSecond: number): number {
  return Math.max(bytesPerSecond / (1000 / SLICE_MS), 1);
}

/** Charges `bytes` at time `now`; they may move after `waitMs`, 0 while the slice's quota lasts. */
export function charge(
  state: ThrottleState,
  now: number,
  bytes: number,
  bytesPerSecond: number,
): { readonly state: ThrottleState; readonly waitMs: number } {
  const quota = quotaOf(bytesPerSecond);
  const slices = (charged: number): number => (charged / quota) * SLICE_MS;
  const over = state.sliceStart + Math.max(SLICE_MS, slices(state.charged));
  const next =
    now < over
      ? { sliceStart: state.sliceStart, charged: state.charged + bytes }
      : // Timers are late: the next slice begins where the last one ended, or the rate would sink.
        { sliceStart: now - over < SLICE_MS ? over : now, charged: bytes };
  const end = next.sliceStart + slices(next.charged);
  return { state: next, waitMs: next.charged < quota ? 0 : Math.max(0, end - now) };
}

function checked(rate: number): number {
  if (Number.isFinite(rate) && rate >= 0) return rate;
  throw new ImageError('invalid', `A rate limit is 0 or more bytes per second: ${rate}`);
}

/** The limit of one job. Its rate can be changed at any time, also while somebody waits. */
export class RateLimit {
  readonly #clock: Pick<Host, 'now' | 'sleep'>;
  #rate: number;
  #state: ThrottleState = INITIAL;
  #changed = new AbortController();

  /** `bytesPerSecond` 0: no limit. */
  constructor(bytesPerSecond: number, clock: Pick<Host, 'now' | 'sleep'>) {
    this.#rate = checked(bytesPerSecond);
    this.#clock = clock;
  }

  /** Bytes per second; 0: no limit. */
  get rate(): number {
    return this.#rate;
  }

  /** Takes effect at once: whoever waits is charged anew, at the new rate. */
  setRate(bytesPerSecond: number): void {
    this.#rate = checked(bytesPerSecond);
    this.#state = INITIAL;
    const before = this.#changed;
    this.#changed = new AbortController();
    before.abort();
  }

  /**
   * Resolves when `bytes` may move, in the order of the calls; rejects with the signal's reason.
   * Bytes wait for their own time: what a job moves last is paid for when the job ends.
   */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    for (;;) {
      signal?.throwIfAborted();
      if (this.#rate === 0) return;
      const { state, waitMs } = charge(this.#state, this.#clock.now(), bytes, this.#rate);
      this.#state = state;
      if (waitMs === 0) return;
      const changed = this.#changed.signal;
      if (await this.#wait(waitMs, changed, signal)) return;
    }
  }

  /** True when the time is over, false when the rate was changed before. */
  async #wait(waitMs: number, changed: AbortSignal, signal?: AbortSignal): Promise<boolean> {
    const either = signal === undefined ? changed : AbortSignal.any([changed, signal]);
    const end = this.#clock.now() + waitMs;
    try {
      for (let left = waitMs; left > 0; left = end - this.#clock.now()) {
        await this.#clock.sleep(Math.min(left, LONGEST_SLEEP_MS), either);
      }
      return true;
    } catch (error) {
      signal?.throwIfAborted();
      if (changed.aborted) return false;
      throw error;
    }
  }
}
