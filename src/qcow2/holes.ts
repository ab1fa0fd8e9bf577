// Which tables are holes of the file, and so hold nothing. Millions of pointers may lead into one
// hole: the file system is asked once for each run, not once for each table.

import type { Storage } from '../io/storage.ts';

interface Run {
  readonly data: boolean;
  readonly from: number;
  readonly end: number;
}

/** So many questions more than there were answers that saved a read: then one of some is asked. */
const ASKED_AHEAD = 64;
const SELDOM = 16;

/** Knows the runs that were met last; to be used while nothing is written into holes. */
export class Holes {
  readonly #storage: Storage;
  #hole: Run = { data: false, from: 0, end: 0 };
  #data: Run = { data: true, from: 0, end: 0 };
  #asked = 0;
  #saved = 0;
  #passed = 0;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  /**
   * Reads as zeros by what the file system knows. False may also mean that asking each time takes
   * longer than reading: in a file that is full of short holes.
   */
  has(offset: number, length: number): boolean | Promise<boolean> {
    const { size } = this.#storage;
    if (offset >= size) return true;
    const end = Math.min(offset + length, size);
    const known = this.#known(offset);
    if (known === undefined) {
      if (!this.#isWorthAsking()) return false;
      return this.#ask(offset).then((run) => !run.data && run.end >= end);
    }
    const isHole = !known.data && known.end >= end;
    if (isHole) this.#saved++;
    return isHole;
  }

  /** The same of a part of a file that nobody writes to now; false where all of it is not there. */
  hides(offset: number, length: number): boolean | Promise<boolean> {
    const { writable, size } = this.#storage;
    if (writable || offset + length > size) return false;
    if (contains(this.#data, offset)) return false;
    return this.has(offset, length);
  }

  /** The same without asking; false where nobody knows yet. */
  areKnownToHide(offset: number, length: number): boolean {
    const { writable, size } = this.#storage;
    const end = offset + length;
    return !writable && end <= size && contains(this.#hole, offset) && end <= this.#hole.end;
  }

  #known(offset: number): Run | undefined {
    if (contains(this.#hole, offset)) return this.#hole;
    return contains(this.#data, offset) ? this.#data : undefined;
  }

  #isWorthAsking(): boolean {
    return this.#asked < this.#saved + ASKED_AHEAD || ++this.#passed % SELDOM === 0;
  }

  async #ask(offset: number): Promise<Run> {
    this.#asked++;
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
