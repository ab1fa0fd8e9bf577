// The rate limit on a clock that only sleeping moves.

import { expect, test } from 'vitest';
import { charge, INITIAL, quotaOf, RateLimit } from '../../src/io/throttle.ts';
import { KIB, MIB } from '../../src/units.ts';

/** Time passes when all wait: the earliest sleeper wakes, `late` milliseconds after its time. */
class FakeClock {
  #now = 5_000;
  readonly #late: number;
  readonly #sleepers: { readonly at: number; readonly wake: () => void }[] = [];

  constructor(late = 0) {
    this.#late = late;
  }

  now = () => this.#now;

  sleep = (milliseconds: number, signal?: AbortSignal) =>
    new Promise<void>((resolve, reject) => {
      const aborted = () => {
        const index = this.#sleepers.indexOf(sleeper);
        if (index >= 0) this.#sleepers.splice(index, 1);
        reject(signal?.reason);
      };
      const wake = () => {
        signal?.removeEventListener('abort', aborted);
        resolve();
      };
      const sleeper = { at: this.#now + milliseconds + this.#late, wake };
      this.#sleepers.push(sleeper);
      if (signal?.aborted) aborted();
      else signal?.addEventListener('abort', aborted);
    });

  get sleeping(): number {
    return this.#sleepers.length;
  }

  advance(milliseconds: number): void {
    this.#now += milliseconds;
  }

  /** Runs until `done` settles. */
  async runTo<T>(done: Promise<T>): Promise<T> {
    let settled = false;
    const watched = done.finally(() => {
      settled = true;
    });
    watched.catch(() => {});
    for (;;) {
      await idle();
      if (settled) return watched;
      this.#sleepers.sort((a, b) => a.at - b.at);
      const next = this.#sleepers.shift();
      if (next === undefined) throw new Error('nobody sleeps, and it is not done');
      this.#now = Math.max(this.#now, next.at);
      next.wake();
    }
  }
}

const idle = () => new Promise<void>((resolve) => setImmediate(resolve));

async function secondsFor(
  total: number,
  piece: number,
  rate: number,
  clock = new FakeClock(),
): Promise<number> {
  const limit = new RateLimit(rate, clock);
  const started = clock.now();
  const job = async () => {
    for (let left = total; left > 0; left -= piece) await limit.take(Math.min(piece, left));
  };
  await clock.runTo(job());
  return (clock.now() - started) / 1000;
}

test.for([
  [2, 512 * KIB, 2.0, 2.2],
  [4, 512 * KIB, 4.0, 4.1],
  [2, 64 * KIB, 1.9, 2.2],
  [4, 1 * MIB, 4.0, 4.1],
  [2, 4 * KIB, 1.9, 2.1],
] as const)('%d MiB at 1 MiB/s in pieces of %d bytes', async ([mib, piece, least, most]) => {
  const seconds = await secondsFor(mib * MIB, piece, MIB);
  expect(seconds).toBeGreaterThanOrEqual(least);
  expect(seconds).toBeLessThanOrEqual(most);
});

test.for([
  [64 * KIB, 0],
  [64 * KIB, 1.3],
  [100_000, 0.7],
  [MIB, 1.3],
  [MIB, 12],
  [17 * MIB, 1.1],
  [333 * MIB, 2],
  [4096 * MIB, 2],
] as const)(
  '%d bytes a second hold over two seconds with timers %d ms late, within 5 percent',
  async ([rate, late]) => {
    const piece = Math.min(512 * KIB, Math.max(512, Math.floor(rate / 20)));
    const seconds = await secondsFor(2 * rate, piece, rate, new FakeClock(late));
    expect(seconds).toBeGreaterThan(2 * 0.95 - 1e-6);
    expect(seconds).toBeLessThan(2 * 1.05);
  },
);

test('several who wait at once share the rate', async () => {
  const clock = new FakeClock();
  const limit = new RateLimit(MIB, clock);
  const started = clock.now();
  const order: number[] = [];
  const takes = Array.from({ length: 8 }, async (_, i) => {
    await limit.take(512 * KIB);
    order.push(i);
  });
  await clock.runTo(Promise.all(takes));
  expect(clock.now() - started).toBeCloseTo(4000, 0);
  expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
});

test('idle time is not saved up', async () => {
  const clock = new FakeClock();
  const limit = new RateLimit(MIB, clock);
  await limit.take(1);
  clock.advance(60_000);
  const started = clock.now();
  await clock.runTo(limit.take(MIB));
  expect(clock.now() - started).toBeCloseTo(1000, 0);
});

test('no limit: nobody waits', async () => {
  const limit = new RateLimit(0, new FakeClock());
  for (let i = 0; i < 1000; i++) await limit.take(1024 * MIB);
});

test('a new rate reaches those who wait at once', async () => {
  const clock = new FakeClock();
  const limit = new RateLimit(KIB, clock);
  const take = limit.take(MIB);
  await idle();
  expect(clock.sleeping).toBe(1);
  clock.advance(100_000);
  limit.setRate(MIB);
  const started = clock.now();
  await clock.runTo(take);
  expect(clock.now() - started).toBeCloseTo(1000, 0);
  expect(limit.rate).toBe(MIB);
});

test('switching the limit off lets all who wait go on', async () => {
  const clock = new FakeClock();
  const limit = new RateLimit(KIB, clock);
  const takes = [limit.take(MIB), limit.take(MIB)];
  await idle();
  limit.setRate(0);
  await Promise.all(takes);
  expect(clock.sleeping).toBe(0);
});

test('switching a limit on reaches the next who asks', async () => {
  const clock = new FakeClock();
  const limit = new RateLimit(0, clock);
  await limit.take(MIB);
  limit.setRate(MIB);
  const started = clock.now();
  await clock.runTo(limit.take(MIB));
  expect(clock.now() - started).toBeCloseTo(1000, 0);
});

test('an abort ends the wait with its reason, also before it begins', async () => {
  const clock = new FakeClock();
  const limit = new RateLimit(KIB, clock);
  const abort = new AbortController();
  const take = limit.take(MIB, abort.signal);
  await idle();
  const reason = new Error('enough');
  abort.abort(reason);
  await expect(take).rejects.toBe(reason);
  await expect(limit.take(1, abort.signal)).rejects.toBe(reason);
});

test('a wait longer than a timer can be is slept in parts', async () => {
  // The least quota is a byte a slice.
  const clock = new FakeClock();
  const naps: number[] = [];
  const limit = new RateLimit(1, {
    now: clock.now,
    sleep: (milliseconds, signal) => {
      naps.push(milliseconds);
      return clock.sleep(milliseconds, signal);
    },
  });
  const started = clock.now();
  await clock.runTo(limit.take(30_000_000));
  expect(clock.now() - started).toBeCloseTo(3_000_000_000, -3);
  expect(Math.max(...naps)).toBeLessThan(2 ** 31);
});

test('the quota of a slice is free, and at least one byte', () => {
  expect(quotaOf(MIB)).toBe(MIB / 10);
  expect(quotaOf(1)).toBe(1);
  const first = charge(INITIAL, 1000, 50_000, MIB);
  expect(first.waitMs).toBe(0);
  const second = charge(first.state, 1000, 100_000, MIB);
  expect(second.waitMs).toBeCloseTo((150_000 / MIB) * 1000, 6);
});
