// Files in memory that count what is done to them: a walk that does not end is found by the work it
// does, on any machine, and whatever writes where nothing may be written is found at once. They are
// sparse: what refcounts call taken has a commit write far behind, which costs a file nothing.

import { FilterStorage } from '../../../src/io/filter.ts';
import type { OpenStorageOptions } from '../../../src/io/host.ts';
import { MemoryHost } from '../../../src/io/memory-host.ts';
import { OverlayStorage } from '../../../src/io/overlay.ts';
import type { Storage, WriteKind } from '../../../src/io/storage.ts';

/** Thrown in the middle of work that does not end. Nothing else has this class. */
export class OutOfBudget extends Error {
  override readonly name = 'OutOfBudget';
}

export interface Budget {
  readonly requests: number;
  readonly bytes: number;
}

/** What is done to files, against a budget. */
class Meter {
  readonly #budget: Budget;
  #requests = 0;
  #bytes = 0;
  #writes = 0;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  get writes(): number {
    return this.#writes;
  }

  reset(): void {
    this.#requests = 0;
    this.#bytes = 0;
    this.#writes = 0;
  }

  count(bytes: number): void {
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
  write(end: number): void {
    this.#writes++;
    this.count(0);
    if (end > this.#budget.bytes) throw new OutOfBudget(`a write that ends at ${end}`);
  }
}

class MeteredStorage extends FilterStorage {
  readonly #meter: Meter;

  constructor(inner: Storage, meter: Meter) {
    super(inner);
    this.#meter = meter;
  }

  override async read(offset: number, target: Uint8Array): Promise<void> {
    this.#meter.count(target.length);
    await super.read(offset, target);
  }

  override async write(offset: number, source: Uint8Array, kind: WriteKind): Promise<void> {
    this.#meter.write(offset + source.length);
    await super.write(offset, source, kind);
  }

  override async zero(offset: number, length: number, kind: WriteKind): Promise<void> {
    this.#meter.write(offset + length);
    await super.zero(offset, length, kind);
  }

  override async discard(offset: number, length: number): Promise<void> {
    this.#meter.write(0);
    await super.discard(offset, length);
  }

  override async resize(size: number): Promise<void> {
    this.#meter.write(size);
    await super.resize(size);
  }
}

export class MeteredHost extends MemoryHost {
  readonly #meter: Meter;
  readonly #changed = new Map<string, OverlayStorage>();

  constructor(budget: Budget, options: ConstructorParameters<typeof MemoryHost>[0]) {
    super(options);
    this.#meter = new Meter(budget);
  }

  get writes(): number {
    return this.#meter.writes;
  }

  /** The next piece of work has all of the budget again. */
  reset(): void {
    this.#meter.reset();
  }

  override async openStorage(filename: string, options: OpenStorageOptions): Promise<Storage> {
    const file = await super.openStorage(filename, options);
    const name = await this.realPath(filename);
    const changed = this.#changed.get(name) ?? new OverlayStorage(file);
    this.#changed.set(name, changed);
    return new MeteredStorage(changed, this.#meter);
  }
}
