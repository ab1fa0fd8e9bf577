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

/** Work on overlapping ranges takes turns; work on distinct ranges runs at the same time. */
export class RangeLocks {
  readonly #held = new Set<{ start: number; end: number; done: Promise<void> }>();

  async run<T>(start: number, end: number, work: () => Promise<T>): Promise<T> {
    for (;;) {
      const rival = [...this.#held].find((range) => range.start < end && start < range.end);
      if (rival === undefined) break;
      await rival.done;
    }
    let release = (): void => undefined;
    const done = new Promise<void>((resolve) => {
      release = resolve;
    });
    const range = { start, end, done };
    this.#held.add(range);
    try {
      return await work();
    } finally {
      this.#held.delete(range);
      release();
    }
  }
}
