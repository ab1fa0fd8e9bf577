// What of a plan base shows already: that need not be written again. Several pieces are compared at
// once, ahead of what is written; what is left comes in the order of the disk. Changes nothing.

import { firstDifference } from '../chain/compare-bytes.ts';
import { allocatedIn } from '../chain/extents.ts';
import type { Layer } from '../layer.ts';
import { alignUp, KIB, MIB } from '../units.ts';
import { fill } from './copy.ts';
import { inOrder } from './in-order.ts';
import { type PlanStep, split } from './plan.ts';

export type Plan = AsyncIterable<readonly PlanStep[]> | Iterable<readonly PlanStep[]>;

export interface Comparing {
  readonly base: Layer;
  readonly signal?: AbortSignal | undefined;
  /** Told of bytes that were compared and are left out; may have the next ones wait. */
  skipped(bytes: number): Promise<void> | void;
}

/** Memory in use: so many pieces at once, each with a buffer for either side. */
const IN_FLIGHT = 4;
/** Of one comparison, or one of base's clusters where those are larger. */
const PIECE = MIB;
/** What differs is told by base's clusters, or by so much where those are smaller. */
const UNIT = 64 * KIB;
/** So much of what is left goes on together. */
const BATCH_BYTES = 64 * MIB;
const BATCH_STEPS = 256;

/** The same steps without what base shows already. */
export async function* differing(
  plan: Plan,
  comparing: Comparing,
): AsyncGenerator<readonly PlanStep[]> {
  const comparison = new Comparison(comparing.base);
  let batch: PlanStep[] = [];
  let bytes = 0;
  let left: Stretch[] = [];
  for await (const { step, from, to, changes, isLast } of comparison.judged(plan)) {
    comparing.signal?.throwIfAborted();
    for (const change of changes) {
      const before = left.at(-1);
      if (before?.to === change.from) left[left.length - 1] = { from: before.from, to: change.to };
      else left.push(change);
    }
    const same = to - from - changes.reduce((sum, change) => sum + change.to - change.from, 0);
    if (same > 0) await comparing.skipped(same);
    if (!isLast) continue;
    for (const stretch of left) batch.push(partOf(step, stretch));
    bytes += left.reduce((sum, stretch) => sum + stretch.to - stretch.from, 0);
    left = [];
    if (bytes < BATCH_BYTES && batch.length < BATCH_STEPS) continue;
    yield batch;
    batch = [];
    bytes = 0;
  }
  if (batch.length > 0) yield batch;
}

/** Bytes of the disk, from here to there. */
interface Stretch {
  readonly from: number;
  readonly to: number;
}

/** A part of a step: to be compared, or known to be the same. */
interface Part extends Stretch {
  readonly step: PlanStep;
  readonly isSame: boolean;
  /** Nothing of the step comes behind it. */
  readonly isLast: boolean;
}

interface Judged extends Part {
  readonly changes: readonly Stretch[];
}

class Comparison {
  readonly #base: Layer;
  readonly #unit: number;
  readonly #piece: number;
  readonly #buffers: Uint8Array[] = [];

  constructor(base: Layer) {
    this.#base = base;
    this.#unit = Math.max(UNIT, base.clusterSize);
    this.#piece = Math.max(PIECE, this.#unit);
  }

  judged(plan: Plan): AsyncGenerator<Judged> {
    return inOrder(this.#parts(plan), IN_FLIGHT, async (part) => {
      return { ...part, changes: part.isSame ? [] : await this.#changesIn(part) };
    });
  }

  async *#parts(plan: Plan): AsyncGenerator<Part> {
    for await (const steps of plan) {
      for (const step of steps) {
        const end = step.offset + step.length;
        for await (const { from, to, isSame } of this.#unknown(step)) {
          for (let at = from; at < to; ) {
            const border = isSame ? to : alignUp(at + 1, this.#piece);
            const stop = Math.min(to, border);
            yield { step, from: at, to: stop, isSame, isLast: stop === end };
            at = stop;
          }
        }
      }
    }
  }

  /** Zeros may go on for terabytes: where base holds nothing they need not be looked for. */
  async *#unknown(step: PlanStep): AsyncGenerator<Stretch & { readonly isSame: boolean }> {
    const { kind, offset, length } = step;
    const end = offset + length;
    if (kind === 'copy') {
      yield { from: offset, to: end, isSame: false };
      return;
    }
    let at = offset;
    for await (const extents of allocatedIn(layersFrom(this.#base), offset, length)) {
      for (const extent of extents) {
        if (extent.kind === 'zero') continue;
        if (extent.offset > at) yield { from: at, to: extent.offset, isSame: true };
        at = extent.offset + extent.length;
        yield { from: extent.offset, to: at, isSame: false };
      }
    }
    if (at < end) yield { from: at, to: end, isSame: true };
  }

  async #changesIn({ step, from, to }: Part): Promise<readonly Stretch[]> {
    const [wanted, there] = [this.#buffer(), this.#buffer()];
    try {
      const [will, now] = [wanted.subarray(0, to - from), there.subarray(0, to - from)];
      await Promise.all([fillFrom(step, from, will), this.#readBase(from, now)]);
      const changes: Stretch[] = [];
      for (let at = from; at < to; ) {
        const stop = Math.min(to, alignUp(at + 1, this.#unit));
        const [a, b] = [will, now].map((bytes) => bytes.subarray(at - from, stop - from));
        if (a && b && firstDifference(a, b) !== undefined) changes.push({ from: at, to: stop });
        at = stop;
      }
      return changes;
    } finally {
      this.#buffers.push(wanted, there);
    }
  }

  /** Where base ends now, it will be zeros once it has grown. */
  async #readBase(offset: number, target: Uint8Array): Promise<void> {
    const inside = Math.max(0, Math.min(target.length, this.#base.size - offset));
    if (inside > 0) await this.#base.read(offset, target.subarray(0, inside));
    target.fill(0, inside);
  }

  #buffer(): Uint8Array {
    return this.#buffers.pop() ?? new Uint8Array(this.#piece);
  }
}

/** Whether the plan changes what base shows at all; reads until the first byte that would. */
export async function changesBase(plan: Plan, base: Layer): Promise<boolean> {
  const comparison = new Comparison(base);
  for await (const { changes } of comparison.judged(plan)) if (changes.length > 0) return true;
  return false;
}

/** The part of a step that lies there. */
function partOf(step: PlanStep, { from, to }: Stretch): PlanStep {
  const [offset, length] = [from, to - from];
  if (step.kind === 'zero') return { ...step, offset, length };
  const [, rest] = split(step.pieces, from);
  const [pieces] = split(rest, to);
  return { ...step, offset, length, pieces };
}

/** Base and what stands below it. */
export function layersFrom(base: Layer): readonly Layer[] {
  const layers: Layer[] = [];
  for (let layer: Layer | null = base; layer !== null; layer = layer.backing) layers.push(layer);
  return layers;
}

async function fillFrom(step: PlanStep, from: number, target: Uint8Array): Promise<void> {
  if (step.kind === 'zero') {
    target.fill(0);
    return;
  }
  const part = partOf(step, { from, to: from + target.length });
  await Promise.all(
    (part.kind === 'copy' ? part.pieces : []).map(async (piece) => {
      const start = piece.offset - from;
      await fill(piece, target.subarray(start, start + piece.length));
    }),
  );
}
