// The plain in-memory model of a chain: what the guest sees through each layer, and what a commit
// makes of it. It knows bytes and sectors; how an image stores them is none of its business.

import {
  type ChainSpec,
  type LayerSpec,
  type Operation,
  type Pattern,
  SECTOR,
} from './arbitraries.ts';

/** Coprime to sectors and clusters, so that bytes copied from the wrong place differ. */
export const PATTERN_LENGTH = 509;

/** What a write of this pattern leaves `index` bytes after its start. */
export function patternByte({ seed, plain }: Pattern, index: number): number {
  return plain ? seed : 1 + ((seed + 7 * (index % PATTERN_LENGTH)) % 250);
}

interface ModelLayer {
  readonly bytes: Uint8Array;
  /** One entry per sector: 1 where the layer hides what lies below it. */
  readonly allocated: Uint8Array;
}

export class ChainModel {
  readonly #layers: readonly ModelLayer[];

  constructor(spec: ChainSpec) {
    this.#layers = spec.layers.map((layer, i) => modelLayer(layer, i === 0));
  }

  #layer(index: number): ModelLayer {
    const layer = this.#layers[index];
    if (layer === undefined) throw new Error(`no layer ${index}`);
    return layer;
  }

  /** Size of the disk of layer `index` (0: base) in bytes. */
  size(index: number): number {
    return this.#layer(index).bytes.length;
  }

  /** The guest's bytes through layer `index`; past the end of a shorter layer they are zeros. */
  view(index: number): Uint8Array {
    const { bytes, allocated } = this.#layer(index);
    const below = index === 0 ? new Uint8Array() : this.view(index - 1);
    const seen = bytes.slice();
    for (const [sector, own] of allocated.entries()) {
      if (own) continue;
      const at = sector * SECTOR;
      seen.set(below.subarray(at, at + SECTOR), at);
    }
    return seen;
  }

  /**
   * What base reads like once `top` and all between were committed into it: top's bytes, and base's
   * own past top's end. Where an `overlay` was relinked from top to base and is longer than top, it
   * saw zeros there, and must go on doing so.
   */
  committed(top: number, base: number, overlay?: number): Uint8Array {
    const seen = new Uint8Array(Math.max(this.size(top), this.size(base)));
    seen.set(this.view(base));
    seen.set(this.view(top));
    const seenByOverlay = overlay === undefined ? 0 : this.size(overlay);
    if (seenByOverlay > this.size(top)) seen.fill(0, this.size(top), seenByOverlay);
    return seen;
  }
}

function modelLayer(layer: LayerSpec, isBase: boolean): ModelLayer {
  let bytes = new Uint8Array(layer.sectors * SECTOR);
  let allocated = new Uint8Array(layer.sectors);
  const snapshots: ModelLayer[] = [];
  for (const operation of layer.operations) {
    const { kind } = operation;
    if (kind === 'snapshot') snapshots.push({ bytes: bytes.slice(), allocated: allocated.slice() });
    else if (kind === 'unsnapshot') snapshots.pop();
    else if (kind === 'revert') {
      bytes = snapshots.at(-1)?.bytes.slice() ?? bytes;
      allocated = snapshots.at(-1)?.allocated.slice() ?? allocated;
    }
    const range = changed(layer, operation, isBase);
    if (range === undefined) continue;
    allocated.fill(1, range.start, range.end);
    const target = bytes.subarray(range.start * SECTOR, range.end * SECTOR);
    if ('pattern' in operation) {
      for (let i = 0; i < target.length; i++) target[i] = patternByte(operation.pattern, i);
    } else target.fill(0);
  }
  return { bytes, allocated };
}

interface SectorRange {
  readonly start: number;
  readonly end: number;
}

function changed(layer: LayerSpec, operation: Operation, isBase: boolean): SectorRange | undefined {
  if (!('at' in operation)) return undefined;
  const { at, count } = operation;
  if (operation.kind !== 'discard') return { start: at, end: at + count };
  return discarded(layer, { start: at, end: at + count }, isBase);
}

/**
 * QEMU discards whole clusters (the last one of the disk may be short) and makes them read as
 * zeros. Version 2 has no zero clusters: above a backing file it ignores a discard.
 */
function discarded(
  { format, compat, clusterSize, sectors }: LayerSpec,
  { start, end }: SectorRange,
  isBase: boolean,
): SectorRange | undefined {
  if (format === 'raw') return { start, end };
  if (compat === '0.10' && !isBase) return undefined;
  const perCluster = clusterSize / SECTOR;
  const first = Math.ceil(start / perCluster) * perCluster;
  const last = end === sectors ? end : end - (end % perCluster);
  return first < last ? { start: first, end: last } : undefined;
}
