// Many ranges of a guest's disk whose bytes lie, as they are, in host files: kept as numbers in
// columns, as there may be tens of thousands, for which objects would take ten times the room.

import type { Storage } from './storage.ts';

/** A range of the guest's disk whose bytes lie, as they are, in a host file. */
export interface PlacedRange {
  readonly offset: number;
  readonly length: number;
  readonly host: { readonly storage: Storage; readonly offset: number };
}

const FIRST_ROOM = 256;

interface Columns {
  readonly offsets: Float64Array;
  readonly lengths: Float64Array;
  /** Where the bytes lie in their file. */
  readonly places: Float64Array;
  /** Which file that is: an index of `storages`. */
  readonly sources: Uint32Array;
}

/** In the order in which they were added. */
export class PlacedRanges implements Iterable<PlacedRange> {
  #columns: Columns;
  #length: number;
  readonly #storages: Storage[];

  private constructor(columns: Columns, length: number, storages: Storage[]) {
    this.#columns = columns;
    this.#length = length;
    this.#storages = storages;
  }

  static of(ranges: Iterable<PlacedRange>): PlacedRanges {
    const all = new PlacedRanges(columnsFor(FIRST_ROOM), 0, []);
    for (const range of ranges) all.add(range);
    return all;
  }

  /** How many. */
  get length(): number {
    return this.#length;
  }

  add({ offset, length, host }: PlacedRange): void {
    const at = this.#length++;
    if (at === this.#columns.offsets.length) this.#columns = copyOf(this.#columns, 2 * at);
    const { offsets, lengths, places, sources } = this.#columns;
    offsets[at] = offset;
    lengths[at] = length;
    places[at] = host.offset;
    sources[at] = this.#sourceOf(host.storage);
  }

  at(index: number): PlacedRange | undefined {
    const storage = this.#storages[this.#columns.sources[index] ?? -1];
    if (index >= this.#length || storage === undefined) return undefined;
    const { offsets, lengths, places } = this.#columns;
    return {
      offset: offsets[index] ?? 0,
      length: lengths[index] ?? 0,
      host: { storage, offset: places[index] ?? 0 },
    };
  }

  /** The ranges `from` to `to`, by themselves. */
  slice(from: number, to = this.#length): PlacedRanges {
    const end = Math.min(to, this.#length);
    const columns = {
      offsets: this.#columns.offsets.slice(from, end),
      lengths: this.#columns.lengths.slice(from, end),
      places: this.#columns.places.slice(from, end),
      sources: this.#columns.sources.slice(from, end),
    };
    return new PlacedRanges(columns, Math.max(0, end - from), [...this.#storages]);
  }

  *[Symbol.iterator](): Generator<PlacedRange> {
    for (let i = 0; i < this.#length; i++) {
      const range = this.at(i);
      if (range !== undefined) yield range;
    }
  }

  #sourceOf(storage: Storage): number {
    const known = this.#storages.indexOf(storage);
    return known >= 0 ? known : this.#storages.push(storage) - 1;
  }
}

function columnsFor(room: number): Columns {
  return {
    offsets: new Float64Array(room),
    lengths: new Float64Array(room),
    places: new Float64Array(room),
    sources: new Uint32Array(room),
  };
}

function copyOf(old: Columns, room: number): Columns {
  const grown = columnsFor(Math.max(FIRST_ROOM, room));
  grown.offsets.set(old.offsets);
  grown.lengths.set(old.lengths);
  grown.places.set(old.places);
  grown.sources.set(old.sources);
  return grown;
}
