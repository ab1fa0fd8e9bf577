// Several pieces of work at once, a bounded number of them.

/** At most `limit` pieces of work at once; after the first failure nothing more is started. */
export class Pool {
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
