// How many steps QEMU takes for a rebase: its progress adds them up.

import { StatusCursor } from '../chain/block-status.ts';
import { firstDifference } from '../chain/compare-bytes.ts';
import { LayerCursor } from '../chain/layer-status.ts';
import type { Layer } from '../layer.ts';
import type { Qcow2Image } from '../qcow2/image.ts';
import { alignDown, alignUp, MIB } from '../units.ts';
import { readSide } from './rebase-copy.ts';
import type { Stretch } from './rebase-pieces.ts';

/** The most that QEMU compares at once. */
const STEP = 2 * MIB;

export interface StepSides {
  readonly overlay: Qcow2Image;
  readonly old: readonly Layer[];
  readonly new: readonly Layer[];
  /** The new backing file is this one of the old ones, as QEMU finds it; undefined if it is none. */
  readonly prefix: number | undefined;
}

export class StepCounter {
  readonly #sides: StepSides;
  readonly #prefix: number | undefined;
  /** Of the backing files: a step ends where one of them does. */
  readonly #ends: readonly number[];
  readonly #oldSize: number;
  readonly #overlay: LayerCursor;
  readonly #above: StatusCursor;
  /** Where the step begins that is not over yet. */
  #at = 0;
  /** How far the disk is known; all between is unallocated. */
  #end = 0;

  constructor(sides: StepSides) {
    const { overlay, old, new: now, prefix } = sides;
    this.#sides = sides;
    this.#prefix = prefix;
    this.#oldSize = old[0]?.size ?? 0;
    this.#ends = [this.#oldSize, now[0]?.size ?? 0];
    this.#overlay = new LayerCursor(overlay, false);
    this.#above = new StatusCursor(old.slice(0, prefix));
  }

  /** That are over with the next unallocated range of the image. */
  async count({ offset, length, continues }: Omit<Stretch, 'pieces'>): Promise<number> {
    const before = continues ? 0 : await this.finish();
    if (!continues) this.#at = offset;
    this.#end = offset + length;
    return before + (await this.#steps(false));
  }

  /** The last one, which the end of what is unallocated ends. */
  async finish(): Promise<number> {
    return await this.#steps(true);
  }

  async #steps(isEnd: boolean): Promise<number> {
    let count = 0;
    while (this.#at < this.#end) {
      const { stop, counts } = await this.#passedOver();
      if (counts) {
        const step = Math.min(this.#stepEnd(), stop);
        if (step > this.#end && !isEnd) break;
        await this.#passStep(Math.min(step, this.#end));
        count++;
      } else this.#at = stop;
    }
    return count;
  }

  /** What the layer of the same chain has, untouched by those above it, is passed over. */
  async #passedOver(): Promise<{ readonly stop: number; readonly counts: boolean }> {
    if (this.#prefix === 0) return { stop: this.#end, counts: false };
    const isPast = this.#at >= this.#oldSize;
    if (this.#prefix === undefined || isPast) return { stop: Infinity, counts: true };
    const step = await this.#above.at(this.#at, this.#oldSize);
    const isAllocated = step.kind !== 'absent' || step.pastBacking;
    const stop = this.#at + step.length;
    return isAllocated
      ? { stop, counts: true }
      : { stop: Math.min(stop, this.#end), counts: false };
  }

  /** What a step writes takes its last unit with it, the rest of which no other step has then. */
  async #passStep(stop: number): Promise<void> {
    const unit = this.#sides.overlay.geometry.subclusterSize;
    const from = Math.max(this.#at, alignDown(stop, unit));
    const isWhole = stop === this.#end || from === stop;
    const takesUnit = !isWhole && (await this.#differs(from, stop));
    this.#at = takesUnit ? Math.min(alignUp(stop, unit), this.#end) : stop;
  }

  async #differs(from: number, to: number): Promise<boolean> {
    const [old, now] = [new Uint8Array(to - from), new Uint8Array(to - from)];
    await readSide(this.#sides.old[0], false, from, old, 'old');
    await readSide(this.#sides.new[0], false, from, now, 'new');
    return firstDifference(old, now) !== undefined;
  }

  #stepEnd(): number {
    const at = this.#at;
    const ends = this.#ends.filter((end) => end > at);
    return Math.min(at + STEP, this.#overlay.stepEnd(at), ...ends);
  }
}
