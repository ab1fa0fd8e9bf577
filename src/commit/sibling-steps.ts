// What a sibling has to hold itself before base changes, so that it goes on showing what it shows: of
// each range that the commit changes, what neither it nor a layer between it and base hides. Pure over
// extents.

import { allocatedIn, type SourceExtent } from '../chain/extents.ts';
import type { Layer } from '../layer.ts';
import { type PlanStep, planSteps, shapeOf } from './plan.ts';

export interface Standing {
  readonly sibling: Layer;
  /** Layers from the one that it stands on, down to above base. */
  readonly between: readonly Layer[];
  /** The same, and base with all that is below it. */
  readonly below: readonly Layer[];
}

/** Steps on the sibling, for the steps on base. */
export function siblingSteps(
  commit: AsyncIterable<readonly PlanStep[]>,
  standing: Standing,
): AsyncGenerator<readonly PlanStep[]> {
  const { sibling } = standing;
  return planSteps(lostBy(commit, standing), shapeOf(sibling, sibling.size));
}

async function* lostBy(
  commit: AsyncIterable<readonly PlanStep[]>,
  { sibling, between, below }: Standing,
): AsyncGenerator<readonly SourceExtent[]> {
  const hiding = [sibling, ...between];
  for await (const steps of commit) {
    for (const { offset, length } of steps) {
      const end = Math.min(offset + length, sibling.size);
      for await (const gap of gapsOf(hiding, offset, end)) yield* shownBy(below, gap);
    }
  }
}

interface Stretch {
  readonly offset: number;
  readonly end: number;
}

/** What none of the layers allocates. */
async function* gapsOf(
  layers: readonly Layer[],
  offset: number,
  end: number,
): AsyncGenerator<Stretch> {
  let at = offset;
  if (end <= offset) return;
  for await (const extents of allocatedIn(layers, offset, end - offset)) {
    for (const extent of extents) {
      if (extent.offset > at) yield { offset: at, end: extent.offset };
      at = extent.offset + extent.length;
    }
  }
  if (at < end) yield { offset: at, end };
}

/** All of the stretch: what nobody allocates reads as zeros. */
async function* shownBy(
  layers: readonly Layer[],
  { offset, end }: Stretch,
): AsyncGenerator<readonly SourceExtent[]> {
  let at = offset;
  for await (const extents of allocatedIn(layers, offset, end - offset)) {
    const filled: SourceExtent[] = [];
    for (const extent of extents) {
      if (extent.offset > at) filled.push(zeros(at, extent.offset));
      filled.push(extent);
      at = extent.offset + extent.length;
    }
    yield filled;
  }
  if (at < end) yield [zeros(at, end)];
}

function zeros(offset: number, end: number): SourceExtent {
  return { kind: 'zero', offset, length: end - offset };
}
