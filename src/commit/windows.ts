// A plan in windows: so much is copied and made durable in base before the layers above let go of it.
// Pure.

import { assert } from '../errors.ts';
import { alignUp } from '../units.ts';
import { type PlanStep, split } from './plan.ts';

export interface Window {
  readonly steps: readonly PlanStep[];
  /** The guest's bytes, from here ... */
  readonly from: number;
  /** ... to here, that base holds once the steps are done, and nobody needs above it. */
  readonly to: number;
}

export interface WindowShape {
  /** Of data that is copied; a window may have less, and is longer by a cluster of base at most. */
  readonly bytes: number;
  /** Cluster size of base in bytes. */
  readonly clusterSize: number;
  /** Zeros are written to base as data, and count as such. */
  readonly zerosAreData: boolean;
  /** Only whole units are let go of. */
  readonly unit: number;
  /** What lies behind is not let go of. */
  readonly end: number;
}

/** A bound for what is kept of steps that copy little each. */
const MAX_STEPS = 4096;

export async function* windowsOf(
  plan: AsyncIterable<readonly PlanStep[]>,
  shape: WindowShape,
): AsyncGenerator<Window> {
  const gatherer = new Gatherer(shape);
  for await (const steps of plan) {
    for (const step of steps) yield* gatherer.add(step);
  }
  yield gatherer.last();
}

class Gatherer {
  readonly #shape: WindowShape;
  #steps: PlanStep[] = [];
  #bytes = 0;
  #from = 0;

  constructor(shape: WindowShape) {
    assert(Number.isFinite(shape.bytes) && shape.bytes > 0, 'a window has a size');
    this.#shape = shape;
  }

  *add(step: PlanStep): Generator<Window> {
    const { bytes, clusterSize, zerosAreData, unit, end: last } = this.#shape;
    const counts = step.kind === 'copy' || zerosAreData;
    const end = step.offset + step.length;
    let rest = step;
    for (let at = step.offset; at < end; ) {
      const room = counts ? bytes - this.#bytes : step.length;
      const cut = Math.min(end, alignUp(at + room, clusterSize));
      // What is let go of rests on this: nothing is, before it was in a step.
      assert(cut > at, 'a window goes forward');
      const [now, later] = cutStep(rest, cut);
      this.#steps.push(now);
      if (counts) this.#bytes += now.length;
      if (this.#bytes >= bytes || this.#steps.length >= MAX_STEPS) {
        yield this.#take(Math.min(cut - (cut % unit), last));
      }
      rest = later;
      at = cut;
    }
  }

  last(): Window {
    return this.#take(this.#shape.end);
  }

  #take(to: number): Window {
    const window = { steps: this.#steps, from: this.#from, to };
    this.#steps = [];
    this.#bytes = 0;
    this.#from = to;
    return window;
  }
}

function cutStep(step: PlanStep, at: number): readonly [PlanStep, PlanStep] {
  const { offset, length } = step;
  const [before, after] = [
    { offset, length: at - offset },
    { offset: at, length: offset + length - at },
  ];
  if (step.kind === 'zero')
    return [
      { ...step, ...before },
      { ...step, ...after },
    ];
  const [now, later] = split(step.pieces, at);
  return [
    { ...step, ...before, pieces: now },
    { ...step, ...after, pieces: later },
  ];
}
