// How far a commit is, and how fast.

import type { Host } from '../io/host.ts';

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

/** Counts what is done, and tells of it. */
export class Meter {
  readonly #clock: Pick<Host, 'now'>;
  readonly #total: number;
  readonly #tell: ((progress: CommitProgress) => void) | undefined;
  readonly #started: number;
  #done = 0;

  constructor(
    clock: Pick<Host, 'now'>,
    total: number,
    tell: ((progress: CommitProgress) => void) | undefined,
  ) {
    this.#clock = clock;
    this.#total = total;
    this.#tell = tell;
    this.#started = clock.now();
    this.add(0);
  }

  add(bytes: number): void {
    this.#done += bytes;
    const [done, total] = [this.#done, this.#total];
    const seconds = (this.#clock.now() - this.#started) / 1000;
    const rate = seconds > 0 ? done / seconds : 0;
    const secondsLeft = rate > 0 ? Math.max(0, total - done) / rate : undefined;
    this.#tell?.({ done, total, rate, secondsLeft });
  }
}
