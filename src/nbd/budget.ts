// So much at once and no more: what is taken has to be given back. One taker waits at a time.

export class Budget {
  readonly #most: number;
  #used = 0;
  #wake: (() => void) | undefined;

  constructor(most: number) {
    this.#most = most;
  }

  /** `amount` is at most the whole. */
  tryTake(amount: number): boolean {
    if (this.#used + amount > this.#most) return false;
    this.#used += amount;
    return true;
  }

  async take(amount: number): Promise<void> {
    while (!this.tryTake(amount)) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  give(amount: number): void {
    this.#used -= amount;
    this.#wake?.();
  }
}
