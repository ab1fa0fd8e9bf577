// Work passes freely, until somebody holds the gate: that waits for what is inside, and keeps the rest
// outside until it lets go.

export class Gate {
  #inside = 0;
  #holds = 0;
  #emptied: (() => void)[] = [];
  #opened: (() => void)[] = [];

  async pass<T>(work: () => Promise<T>): Promise<T> {
    while (this.#holds > 0) {
      await new Promise<void>((resolve) => {
        this.#opened.push(resolve);
      });
    }
    this.#inside++;
    try {
      return await work();
    } finally {
      this.#inside--;
      if (this.#inside === 0) wake(this.#emptied);
    }
  }

  /** Resolves to what lets go, once; holds nest. */
  async hold(): Promise<() => void> {
    this.#holds++;
    while (this.#inside > 0) {
      await new Promise<void>((resolve) => {
        this.#emptied.push(resolve);
      });
    }
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#holds--;
      if (this.#holds === 0) wake(this.#opened);
    };
  }
}

function wake(waiting: (() => void)[]): void {
  for (const go of waiting.splice(0)) go();
}
