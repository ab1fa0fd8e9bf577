// What a layer holds, summed up: in all, and for each of some equal parts (cells) of the disk.

import { alignUp, SECTOR } from '../units.ts';
import type { HeldKind } from './holdings.ts';

/** In bytes. */
export interface Held {
  /** All data, hidden or not. */
  readonly data: number;
  /** Of it, what a layer above hides. */
  readonly hiddenData: number;
  readonly zero: number;
  readonly hiddenZero: number;
  readonly unknown: number;
}

export interface Cell extends Held {
  /** The first byte in this cell that is held, and the one behind the last; both 0 where none is. */
  readonly from: number;
  readonly to: number;
}

/** Size of a cell so that `diskSize` has at most `most` of them: whole sectors. */
export function cellSizeFor(diskSize: number, most: number): number {
  return Math.max(SECTOR, alignUp(Math.ceil(diskSize / Math.max(1, most)), SECTOR));
}

const DATA = 0;
const HIDDEN_DATA = 1;
const ZERO = 2;
const HIDDEN_ZERO = 3;
const UNKNOWN = 4;
const FROM = 5;
const TO = 6;
const FIELDS = 7;

/** Bytes are added in order; memory depends on the number of cells alone. */
export class Strip {
  readonly cellSize: number;
  readonly length: number;
  readonly #cells: Float64Array;
  readonly #totals = new Float64Array(FIELDS);

  constructor(diskSize: number, mostCells: number) {
    this.cellSize = cellSizeFor(diskSize, mostCells);
    this.length = Math.ceil(diskSize / this.cellSize);
    this.#cells = new Float64Array(this.length * FIELDS);
  }

  add(kind: HeldKind, from: number, to: number, hidden: boolean): void {
    const field = kind === 'unknown' ? UNKNOWN : kind === 'data' ? DATA : ZERO;
    this.#count(this.#totals, 0, field, to - from, hidden);
    for (let at = from; at < to; ) {
      const index = Math.floor(at / this.cellSize);
      const end = Math.min(to, (index + 1) * this.cellSize);
      const base = index * FIELDS;
      this.#count(this.#cells, base, field, end - at, hidden);
      if (this.#cells[base + TO] === 0) this.#cells[base + FROM] = at;
      this.#cells[base + TO] = end;
      at = end;
    }
  }

  #count(into: Float64Array, base: number, field: number, bytes: number, hidden: boolean): void {
    into[base + field] = (into[base + field] as number) + bytes;
    // The hidden part of a kind stands behind it.
    if (hidden && field !== UNKNOWN) {
      into[base + field + 1] = (into[base + field + 1] as number) + bytes;
    }
  }

  get held(): Held {
    return heldIn(this.#totals, 0);
  }

  cell(index: number): Cell {
    const base = index * FIELDS;
    const at = (field: number) => this.#cells[base + field] as number;
    return { ...heldIn(this.#cells, base), from: at(FROM), to: at(TO) };
  }
}

function heldIn(counts: Float64Array, base: number): Held {
  const at = (field: number) => counts[base + field] as number;
  return {
    data: at(DATA),
    hiddenData: at(HIDDEN_DATA),
    zero: at(ZERO),
    hiddenZero: at(HIDDEN_ZERO),
    unknown: at(UNKNOWN),
  };
}

/**
 * Which layer (0: top) the guest sees in a cell, and what: data before zeros, the larger part
 * before the smaller. `nothing`: no layer holds anything there. A layer that could not say comes
 * first only where those above it hold nothing.
 */
export function seenIn(
  strips: readonly Strip[],
  index: number,
): { readonly kind: HeldKind | 'nothing'; readonly layer: number } {
  let best = { kind: 'nothing' as HeldKind | 'nothing', layer: -1, bytes: 0 };
  for (const [layer, strip] of strips.entries()) {
    const cell = strip.cell(index);
    const data = cell.data - cell.hiddenData;
    const zero = cell.zero - cell.hiddenZero;
    if (data > 0 && (best.kind !== 'data' || data > best.bytes)) {
      if (best.kind !== 'unknown') best = { kind: 'data', layer, bytes: data };
    } else if (
      zero > 0 &&
      (best.kind === 'nothing' || (best.kind === 'zero' && zero > best.bytes))
    ) {
      best = { kind: 'zero', layer, bytes: zero };
    }
    if (cell.unknown > 0 && best.kind === 'nothing') {
      best = { kind: 'unknown', layer, bytes: cell.unknown };
    }
  }
  return best;
}
