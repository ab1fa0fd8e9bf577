// Which tables are holes of the file, and so hold nothing. Millions of pointers may lead into one
// hole: the file system is asked once for each run, not once for each table.

import type { Storage } from '../io/storage.ts';

interface Run {
  readonly data: boolean;
  readonly from: number;
  readonly end: number;
}

/** Knows the runs that were met last; to be used while nothing is written into holes. */
export class Holes {
  readonly #storage: Storage;
  #hole: Run = { data: false, from: 0, end: 0 };
  #data: Run = { data: true, from: 0, end: 0 };

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  /** Reads as zeros by what the file system knows. */
  async has(offset: number, length: number): Promise<boolean> {
    const { size } = this.#storage;
    if (offset >= size) return true;
    const { data, end } = this.#known(offset) ?? (await this.#ask(offset));
    return !data && end >= Math.min(offset + length, size);
  }

  #known(offset: number): Run | undefined {
    if (contains(this.#hole, offset)) return this.#hole;
    return contains(this.#data, offset) ? this.#data : undefined;
  }

  async #ask(offset: number): Promise<Run> {
    const { data, end } = await this.#storage.extentAt(offset);
    const before = data ? this.#data : this.#hole;
    const from = before.end === end ? Math.min(before.from, offset) : offset;
    const run = { data, from, end };
    if (data) this.#data = run;
    else this.#hole = run;
    return run;
  }
}

function contains({ from, end }: Run, offset: number): boolean {
  return offset >= from && offset < end;
}
