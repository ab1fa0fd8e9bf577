// Rate limit: how long a piece of work has to wait so that no more than so many bytes move per
// second. Time is cut into slices of 100 ms, each with a quota; what exceeds the quota is paid off
// in the following slices.

import type { Host } from './host.ts';

export const SLICE_MS = 100;

export interface ThrottleState {
  /** Start of the current slice, in milliseconds of the host's clock. */
  readonly sliceStart: number;
  /** Bytes charged since then; may exceed the quota, and then covers later slices too. */
  readonly charged: number;
}

export const INITIAL: ThrottleState = { sliceStart: 0, charged: 0 };

export function quotaOf(bytesPerSecond: number): number {
  return Math.max(bytesPerSecond / (1000 / SLICE_MS), 1);
}

/**
 * Charges `bytes` at time `now`. `waitMs` is how long the next piece has to wait: until the slices
 * that the bytes charged so far take up are over; 0 while the quota lasts.
 */
export function charge(
  state: ThrottleState,
  now: number,
  bytes: number,
  bytesPerSecond: number,
): { readonly state: ThrottleState; readonly waitMs: number } {
  const quota = quotaOf(bytesPerSecond);
  const slicesTaken = Math.max(1, Math.ceil(state.charged / quota));
  const fresh = now >= state.sliceStart + slicesTaken * SLICE_MS;
  const sliceStart = fresh ? now : state.sliceStart;
  const charged = (fresh ? 0 : state.charged) + bytes;
  const end = sliceStart + (charged / quota) * SLICE_MS;
  return {
    state: { sliceStart, charged },
    waitMs: charged < quota ? 0 : Math.max(0, end - now),
  };
}

/** The limit of one job. Its rate can be changed at any time, also while somebody waits. */
export class RateLimit {
  readonly #clock: Pick<Host, 'now' | 'sleep'>;
  #rate: number;
  #state: ThrottleState = INITIAL;
  /** Until then (host's clock, milliseconds) nothing may move. */
  #blockedUntil = 0;
  #changed = new AbortController();

  /** `bytesPerSecond` 0: no limit. */
  constructor(bytesPerSecond: number, clock: Pick<Host, 'now' | 'sleep'>) {
    this.#rate = bytesPerSecond;
    this.#clock = clock;
  }

  /** Bytes per second; 0: no limit. */
  get rate(): number {
    return this.#rate;
  }

  /** Takes effect at once. */
  setRate(bytesPerSecond: number): void {
    this.#rate = bytesPerSecond;
    this.#state = INITIAL;
    this.#blockedUntil = 0;
    this.#changed.abort();
    this.#changed = new AbortController();
  }

  /** Resolves when `bytes` may move; rejects with the signal's reason. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    for (;;) {
      signal?.throwIfAborted();
      if (this.#rate === 0) return;
      const wait = this.#blockedUntil - this.#clock.now();
      if (wait <= 0) break;
      const changed = this.#changed.signal;
      const either = signal === undefined ? changed : AbortSignal.any([changed, signal]);
      try {
        await this.#clock.sleep(wait, either);
      } catch (error) {
        if (!changed.aborted || signal?.aborted) throw error;
      }
    }
    const now = this.#clock.now();
    const { state, waitMs } = charge(this.#state, now, bytes, this.#rate);
    this.#state = state;
    this.#blockedUntil = now + waitMs;
  }
}
