// The merged view of some layers of a chain: what they hold together, short layers included.

import type { HostRange, Layer } from '../layer.ts';

/** A range that one of the layers allocates, and which one that is. */
export type SourceExtent =
  | { readonly kind: 'zero'; readonly offset: number; readonly length: number }
  | {
      readonly kind: 'data';
      readonly offset: number;
      readonly length: number;
      readonly layer: Layer;
      /** Where the bytes lie as they are; null where they must go through `layer.read`. */
      readonly host: HostRange | null;
    };

const BATCH = 256;

/**
 * The ranges in `offset .. offset + length` that any of `layers` (top first, neighbours in a chain)
 * allocates, in order. A range that none of them allocates is left out. Where a layer says nothing
 * and the next one of them has ended already, the range reads as zeros and counts as allocated:
 * the layers below must not shine through.
 */
export async function* allocatedIn(
  layers: readonly Layer[],
  offset: number,
  length: number,
): AsyncGenerator<readonly SourceExtent[]> {
  const batch = new Batch();
  yield* walk(layers, 0, offset, offset + length, batch);
  if (batch.extents.length > 0) yield batch.extents;
}

class Batch {
  extents: SourceExtent[] = [];

  add(extent: SourceExtent): void {
    const last = this.extents.at(-1);
    const merged = last && merge(last, extent);
    if (merged) this.extents[this.extents.length - 1] = merged;
    else this.extents.push(extent);
  }

  take(): readonly SourceExtent[] {
    const taken = this.extents;
    this.extents = [];
    return taken;
  }
}

function merge(a: SourceExtent, b: SourceExtent): SourceExtent | undefined {
  const end = a.offset + a.length;
  if (end !== b.offset) return undefined;
  if (a.kind === 'zero' && b.kind === 'zero') return { ...a, length: a.length + b.length };
  if (a.kind === 'zero' || b.kind === 'zero') return undefined;
  if (a.layer !== b.layer) return undefined;
  // Bytes that go through `layer.read` lie together wherever they come from.
  if (a.host === null && b.host === null) return { ...a, length: a.length + b.length };
  if (a.host === null || b.host === null) return undefined;
  if (a.host.offset + a.length !== b.host.offset) return undefined;
  return { ...a, length: a.length + b.length };
}

async function* walk(
  layers: readonly Layer[],
  index: number,
  offset: number,
  end: number,
  batch: Batch,
): AsyncGenerator<readonly SourceExtent[]> {
  const layer = layers[index];
  if (layer === undefined) return;
  const covered = Math.min(end, layer.size);
  for (let at = offset; at < covered; ) {
    for (const extent of await layer.extents(at, covered - at)) {
      at = extent.offset + extent.length;
      if (extent.kind === 'unallocated') {
        yield* walk(layers, index + 1, extent.offset, at, batch);
      } else if (extent.kind === 'zero') {
        batch.add({ kind: 'zero', offset: extent.offset, length: extent.length });
      } else batch.add({ ...extent, layer });
      if (batch.extents.length >= BATCH) yield batch.take();
    }
  }
  if (covered < end) {
    const start = Math.max(offset, covered);
    batch.add({ kind: 'zero', offset: start, length: end - start });
  }
}
