// Many at once of one kind of work, or one alone of the other; in order of arrival.

export class Turns {
  #tail: Promise<unknown> = Promise.resolve();
  #together: Promise<unknown>[] = [];

  /** At the same time as others of this kind. */
  together<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    const ended = result.catch(() => undefined);
    this.#together.push(ended);
    void ended.then(() => {
      this.#together = this.#together.filter((each) => each !== ended);
    });
    return result;
  }

  /** While no other work runs. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    const result = Promise.all([this.#tail, ...this.#together]).then(work);
    this.#tail = result.catch(() => undefined);
    return result;
  }
}
