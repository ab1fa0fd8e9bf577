// What becomes of persistent bitmaps: those of base record what a commit writes; with `bitmaps`, those
// of the merged layers come down too.

import type { ChainLayer } from '../chain/chain.ts';
import { ImageError } from '../errors.ts';
import { addBitmap, checkNew, mergeBits } from '../qcow2/bitmap-edit.ts';
import type { GrowingBitmap } from '../qcow2/bitmap-growth.ts';
import type { Bitmap } from '../qcow2/bitmaps.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import type { Range, Refuse } from './range.ts';

/** A bitmap of base that gets the dirty bits of its namesakes in the layers above. */
export interface BitmapMerge {
  readonly name: string;
  /** Files of the layers that it comes from, the uppermost first. */
  readonly from: readonly string[];
  /** Base has none of that name yet. */
  readonly creates: boolean;
}

export interface BitmapPlan {
  readonly merges: readonly BitmapMerge[];
  /** Bitmaps that are kept as they are, where that may surprise, in words. */
  readonly left: readonly string[];
}

/**
 * A bitmap comes down where the top has it: what a layer below the top calls dirty is not all that
 * changed since if the top did not record too. Those below the top that have the name join in.
 */
export function planBitmaps(
  { chain, topIndex, baseIndex, base }: Range,
  wanted: boolean,
  newBaseSize: number,
  refuse: Refuse,
): BitmapPlan {
  const left = bitmapsOf(base)
    .filter(({ inconsistent }) => inconsistent)
    .map(
      ({ name }) => `bitmap '${name}' of '${base.filename}' is inconsistent and records nothing`,
    );
  if (!wanted) return { merges: [], left };
  const layers = chain.layers.slice(topIndex, baseIndex);
  const merges: BitmapMerge[] = [];
  for (const [depth, layer] of layers.entries()) {
    for (const bitmap of bitmapsOf(layer)) {
      const why = whyNotMerged(bitmap, layers, depth, base);
      if (why !== null) left.push(`bitmap '${bitmap.name}' of '${layer.filename}' ${why}`);
      else if (depth === 0) merges.push(mergeOf(bitmap.name, layers, base));
    }
  }
  for (const merge of merges) checkMerge(merge, layers, base, newBaseSize, refuse);
  return { merges, left };
}

function bitmapsOf({ layer }: ChainLayer): readonly Bitmap[] {
  return layer instanceof Qcow2Image ? layer.bitmaps.list : [];
}

function usableIn(layer: ChainLayer, name: string): Bitmap | undefined {
  return bitmapsOf(layer).find(
    (bitmap) => bitmap.name === name && bitmap.enabled && !bitmap.inconsistent,
  );
}

function whyNotMerged(
  { name, enabled, inconsistent }: Bitmap,
  layers: readonly ChainLayer[],
  depth: number,
  base: ChainLayer,
): string | null {
  const top = layers[0];
  if (inconsistent) return 'is inconsistent: it is not merged';
  if (!enabled) return 'is disabled: it is not merged';
  if (depth > 0 && top !== undefined && usableIn(top, name) === undefined) {
    return `is not merged: none of that name records in '${top.filename}'`;
  }
  return bitmapsOf(base).some((other) => other.name === name && other.inconsistent)
    ? `is not merged: its namesake in '${base.filename}' is inconsistent`
    : null;
}

function mergeOf(name: string, layers: readonly ChainLayer[], base: ChainLayer): BitmapMerge {
  const from = layers.filter((layer) => usableIn(layer, name) !== undefined);
  const creates = !bitmapsOf(base).some((other) => other.name === name);
  return { name, from: from.map(({ filename }) => filename), creates };
}

function granularityIn(layers: readonly ChainLayer[], name: string): number {
  const [top] = layers;
  return (top && usableIn(top, name)?.granularity) ?? 0;
}

function checkMerge(
  { name, creates }: BitmapMerge,
  layers: readonly ChainLayer[],
  { layer, filename }: ChainLayer,
  size: number,
  refuse: Refuse,
): void {
  if (!(layer instanceof Qcow2Image)) {
    const message = `'${filename}' can't have bitmaps: its format is ${layer.format}`;
    refuse(new ImageError('unsupported', message, { hint: 'Leave --bitmaps out.' }));
    return;
  }
  if (!creates) return;
  const { header, clusterSize, bitmaps } = layer;
  try {
    checkNew(bitmaps, { filename, header, clusterSize, size }, name, granularityIn(layers, name));
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    refuse(error);
  }
}

/** For the estimate of space: what base's bitmaps will take. */
export function growingBitmaps(
  { chain, topIndex, baseIndex, base }: Range,
  { merges }: BitmapPlan,
): readonly GrowingBitmap[] {
  const layers = chain.layers.slice(topIndex, baseIndex);
  const there = recordingIn(base).map((bitmap) => ({
    ...bitmap,
    rewritten: merges.some(({ name }) => name === bitmap.name),
  }));
  const created = merges
    .filter(({ creates }) => creates)
    .map(({ name }) => ({
      nameBytes: new TextEncoder().encode(name),
      granularity: granularityIn(layers, name),
      records: false,
      rewritten: true,
    }));
  return [...there, ...created];
}

/** As writes find them that change nothing but what is dirty. */
export function recordingIn(layer: ChainLayer): readonly (GrowingBitmap & { name: string })[] {
  return bitmapsOf(layer).map(({ name, nameBytes, granularity, enabled, inconsistent }) => ({
    name,
    nameBytes,
    granularity,
    records: enabled && !inconsistent,
    rewritten: false,
  }));
}

/** Base holds everything, durably. Its bitmaps are right in its file when this resolves. */
export async function settleBitmaps(
  { chain, topIndex, baseIndex, base }: Range,
  merges: readonly BitmapMerge[],
): Promise<void> {
  const { layer } = base;
  if (!(layer instanceof Qcow2Image)) return;
  if (merges.length === 0) return await layer.storeBitmaps();
  const layers = chain.layers.slice(topIndex, baseIndex);
  await layer.changeBitmaps(async (bitmaps) => {
    for (const { name, creates } of merges) {
      if (creates) addBitmap(bitmaps, layer, name, granularityIn(layers, name));
      const target = bitmaps.find(name);
      for (const each of layers) {
        const source = usableIn(each, name);
        if (source === undefined || target === undefined) continue;
        if (each.layer instanceof Qcow2Image) await mergeBits(target, each.layer.bitmaps, source);
      }
    }
  });
}
