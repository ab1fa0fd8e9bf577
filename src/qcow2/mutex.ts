// Turns: one holder at a time, in order of arrival; and the same per range of bytes.

/** The one queue per image through which every change of its metadata goes. */
export class Mutex {
  #tail: Promise<void> = Promise.resolve();

  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    this.#tail = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }
}

interface Claim {
  readonly start: number;
  readonly end: number;
  readonly shared: boolean;
  readonly done: Promise<void>;
}

/**
 * Work on overlapping ranges takes turns in order of arrival, unless both only read; all other work
 * runs at the same time.
 */
export class RangeLocks {
  readonly #claims = new Set<Claim>();

  /** For work that changes the range. */
  exclusive<T>(start: number, end: number, work: () => Promise<T>): Promise<T> {
    return this.#run(start, end, false, work);
  }

  /** For work that reads the range: nothing that it was told about it changes meanwhile. */
  shared<T>(start: number, end: number, work: () => Promise<T>): Promise<T> {
    return this.#run(start, end, true, work);
  }

  async #run<T>(start: number, end: number, shared: boolean, work: () => Promise<T>): Promise<T> {
    const rivals = [...this.#claims].filter(
      (other) => other.start < end && start < other.end && !(shared && other.shared),
    );
    let release = (): void => undefined;
    const done = new Promise<void>((resolve) => {
      release = resolve;
    });
    const claim = { start, end, shared, done };
    this.#claims.add(claim);
    try {
      // Who comes later waits for us in turn, so that nobody is passed over for ever.
      for (const rival of rivals) await rival.done;
      return await work();
    } finally {
      this.#claims.delete(claim);
      release();
    }
  }
}
