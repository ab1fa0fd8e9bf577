// How many steps QEMU takes for a rebase: its progress adds them up.

import { StatusCursor } from '../chain/block-status.ts';
import type { Layer } from '../layer.ts';
import { MIB } from '../units.ts';

/** The most that QEMU compares at once. */
const STEP = 2 * MIB;

export interface StepSides {
  readonly old: readonly Layer[];
  readonly new: readonly Layer[];
  /** The new backing file is this one of the old ones, as QEMU finds it; undefined if it is none. */
  readonly prefix: number | undefined;
}

/** For stretches of the image that follow each other. */
export class StepCounter {
  readonly #sides: StepSides;
  readonly #oldSize: number;
  readonly #newSize: number | undefined;
  readonly #above: StatusCursor;
  #at = 0;

  constructor(sides: StepSides) {
    this.#sides = sides;
    this.#oldSize = sides.old[0]?.size ?? 0;
    this.#newSize = sides.new[0]?.size;
    this.#above = new StatusCursor(sides.old.slice(0, sides.prefix));
  }

  /** Of an unallocated range, or the next part of one. */
  async count(offset: number, length: number): Promise<number> {
    const end = offset + length;
    let count = 0;
    for (this.#at = offset; this.#at < end; ) {
      const { stop, counts } = await this.#nextRange(end);
      if (counts) count += this.#stepsTo(stop);
      this.#at = stop;
    }
    return count;
  }

  /** What lies on a layer of the same chain, untouched by those above it, is passed over. */
  async #nextRange(end: number): Promise<{ readonly stop: number; readonly counts: boolean }> {
    const { prefix } = this.#sides;
    if (prefix === undefined || this.#at >= this.#oldSize) return { stop: end, counts: true };
    if (prefix === 0) return { stop: Math.min(end, this.#oldSize), counts: false };
    const step = await this.#above.at(this.#at, Math.min(end, this.#oldSize));
    const isAllocated = step.kind !== 'absent' || step.pastBacking;
    return { stop: this.#at + step.length, counts: isAllocated };
  }

  #stepsTo(end: number): number {
    let count = 0;
    for (let at = this.#at; at < end; count++) {
      let stop = Math.min(at + STEP, end);
      if (at < this.#oldSize) stop = Math.min(stop, this.#oldSize);
      if (this.#newSize !== undefined && at < this.#newSize) stop = Math.min(stop, this.#newSize);
      at = stop;
    }
    return count;
  }
}
