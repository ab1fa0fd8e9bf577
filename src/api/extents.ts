// Extents as streams: of one layer, and of a whole chain, where for each range the uppermost layer
// that says anything decides.

import { blockStatus } from '../chain/block-status.ts';
import type { Chain } from '../chain/chain.ts';
import { ImageError } from '../errors.ts';
import { lowestPlace } from '../io/filter.ts';
import type { Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { checkOffset } from '../units.ts';
import type { BlockStatus, ChainExtent, LayerExtent, RangeOptions } from './chain.ts';

interface Range {
  readonly start: number;
  readonly end: number;
}

/** The range that is asked for; throws `invalid` where it is not inside the disk. */
export function rangeOf(size: number, { offset = 0, length }: RangeOptions): Range {
  checkOffset(offset, 'Offset');
  if (length !== undefined) checkOffset(length, 'Length');
  const end = length === undefined ? Math.max(offset, size) : offset + length;
  if (end <= size) return { start: offset, end };
  throw new ImageError(
    'invalid',
    `Range ${offset}+${length ?? 0} is outside of the disk (${size} bytes)`,
  );
}

export async function* layerExtents(
  layer: Layer,
  options: RangeOptions = {},
): AsyncGenerator<LayerExtent, void, undefined> {
  const { start, end } = rangeOf(layer.size, options);
  for (let at = start; at < end; ) {
    options.signal?.throwIfAborted();
    for (const extent of await layer.extents(at, end - at)) {
      const { kind, offset, length } = extent;
      const compressed = extent.kind === 'data' && extent.host === null;
      at = offset + length;
      yield { kind, offset, length, compressed };
    }
  }
}

/** Neighbours that differ in nothing are one. */
export async function* chainExtents(
  chain: Chain,
  options: RangeOptions = {},
): AsyncGenerator<ChainExtent, void, undefined> {
  const range = rangeOf(chain.size, options);
  let last: ChainExtent | undefined;
  const layers = chain.layers.map(({ layer }) => layer);
  for await (const next of walk(layers, 0, range, options.signal)) {
    if (last !== undefined && isLike(last, next)) {
      last = { ...last, length: last.length + next.length };
      continue;
    }
    if (last !== undefined) yield last;
    last = next;
  }
  if (last !== undefined) yield last;
}

/** Neighbours that lie one behind the other are one. */
export async function* chainStatus(
  chain: Chain,
  options: RangeOptions = {},
): AsyncGenerator<BlockStatus, void, undefined> {
  const { start, end } = rangeOf(chain.size, options);
  const layers = chain.layers.map(({ layer }) => layer);
  for await (const status of blockStatus(layers, start, end - start, options.signal)) {
    const { kind, offset, length, depth, host } = status;
    if (kind === 'absent' && depth === layers.length - 1) checkNothingBelow(layers);
    const hostOffset = host && lowestPlace(host).offset;
    yield { kind, offset, length, layer: depth, hostOffset };
  }
}

/** What no layer holds reads as zeros; not where the layer below it was not opened. */
export function checkNothingBelow(layers: readonly Layer[]): void {
  const lowest = layers.at(-1);
  const missing = lowest instanceof Qcow2Image ? lowest.missingBacking() : undefined;
  if (missing !== undefined) throw missing;
}

function isLike(a: ChainExtent, b: ChainExtent): boolean {
  return a.kind === b.kind && a.layer === b.layer && a.compressed === b.compressed;
}

async function* walk(
  layers: readonly Layer[],
  index: number,
  { start, end }: Range,
  signal: AbortSignal | undefined,
): AsyncGenerator<ChainExtent> {
  const layer = layers[index];
  if (layer === undefined) checkNothingBelow(layers);
  // Past the end of a short layer there are zeros, and nobody has said so.
  const covered = Math.max(start, Math.min(end, layer?.size ?? 0));
  if (layer !== undefined && covered > start) {
    const range = { offset: start, length: covered - start, ...(signal && { signal }) };
    for await (const { kind, offset, length, compressed } of layerExtents(layer, range)) {
      if (kind === 'unallocated') {
        yield* walk(layers, index + 1, { start: offset, end: offset + length }, signal);
      } else yield { kind, offset, length, layer: index, compressed };
    }
  }
  if (covered < end) {
    const rest = { offset: covered, length: end - covered };
    yield { kind: 'zero', ...rest, layer: null, compressed: false };
  }
}
