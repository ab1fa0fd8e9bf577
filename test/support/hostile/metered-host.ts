// Files in memory that count what is done to them: a walk that does not end is found by the work it
// does, on any machine, and whatever writes where nothing may be written is found at once.

import type { OpenStorageOptions } from '../../../src/io/host.ts';
import type { MemoryStorage } from '../../../src/io/memory.ts';
import { MemoryHost } from '../../../src/io/memory-host.ts';
import type { Storage } from '../../../src/io/storage.ts';

/** Thrown in the middle of work that does not end. Nothing else has this class. */
export class OutOfBudget extends Error {
  override readonly name = 'OutOfBudget';
}

export interface Budget {
  readonly requests: number;
  readonly bytes: number;
}

export class MeteredHost extends MemoryHost {
  readonly #budget: Budget;
  #requests = 0;
  #bytes = 0;
  #writes = 0;

  constructor(budget: Budget, options: ConstructorParameters<typeof MemoryHost>[0]) {
    super(options);
    this.#budget = budget;
  }

  get writes(): number {
    return this.#writes;
  }

  get requests(): number {
    return this.#requests;
  }

  /** The next piece of work has all of the budget again. */
  reset(): void {
    this.#requests = 0;
    this.#bytes = 0;
    this.#writes = 0;
  }

  override async openStorage(filename: string, options: OpenStorageOptions): Promise<Storage> {
    const storage = (await super.openStorage(filename, options)) as MemoryStorage;
    const { read, write, zero, discard, resize } = storage;
    storage.read = (offset, target) => {
      this.#count(target.length);
      return read.call(storage, offset, target);
    };
    storage.write = (offset, source, kind) => {
      this.#write(offset + source.length);
      return write.call(storage, offset, source, kind);
    };
    storage.zero = (offset, length, kind) => {
      this.#write(offset + length);
      return zero.call(storage, offset, length, kind);
    };
    storage.discard = (offset, length) => {
      this.#write(0);
      return discard.call(storage, offset, length);
    };
    storage.resize = (size) => {
      this.#write(size);
      return resize.call(storage, size);
    };
    return storage;
  }

  #count(bytes: number): void {
    this.#requests++;
    this.#bytes += bytes;
    if (this.#requests > this.#budget.requests) {
      throw new OutOfBudget(`more than ${this.#budget.requests} requests`);
    }
    if (this.#bytes > this.#budget.bytes) {
      throw new OutOfBudget(`more than ${this.#budget.bytes} bytes`);
    }
  }

  /** A file that is made much longer takes no memory of the machine's, but of ours. */
  #write(end: number): void {
    this.#writes++;
    this.#count(0);
    if (end > this.#budget.bytes) throw new OutOfBudget(`a write that ends at ${end}`);
  }
}
