// What a chain says about ranges of its disk, as QEMU's metadata contexts tell it: space, zeros, the
// layer that holds the bytes, and bitmaps. Neighbours that are the same are one run.

import { type StatusStep, statusSteps } from '../chain/block-status.ts';
import { ImageError } from '../errors.ts';
import type { Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';

export interface StatusRun {
  /** In bytes; at least 1. */
  readonly length: number;
  /** Takes no space of its own. */
  readonly hole: boolean;
  readonly zero: boolean;
}

export interface DepthRun {
  readonly length: number;
  /** 0: no layer holds the bytes; 1: the top one; 2: the one below it. */
  readonly depth: number;
}

export interface DirtyRun {
  readonly length: number;
  readonly dirty: boolean;
}

/** A run of a client's has 32 bits. */
const LONGEST = 2 ** 32 - 65536;

/** Top first. */
function layersOf(top: Layer): readonly Layer[] {
  const layers: Layer[] = [];
  for (let layer: Layer | null = top; layer !== null; layer = layer.backing) layers.push(layer);
  return layers;
}

/** From `offset` on, at most `most` runs; they cover the range where that is enough. */
export function statusRuns(
  top: Layer,
  offset: number,
  length: number,
  most: number,
): Promise<readonly StatusRun[]> {
  return runsOf(top, offset, length, most, ({ kind }) => {
    return { hole: kind === 'zero' || kind === 'absent', zero: kind !== 'data' };
  });
}

export function depthRuns(
  top: Layer,
  offset: number,
  length: number,
  most: number,
): Promise<readonly DepthRun[]> {
  return runsOf(top, offset, length, most, ({ kind, depth, pastBacking }) => {
    // A layer that is too short for the one above holds the zeros that are seen instead.
    if (kind === 'absent') return { depth: pastBacking ? depth + 2 : 0 };
    return { depth: depth + 1 };
  });
}

type Run<T> = T & { readonly length: number };

async function runsOf<T extends Readonly<Record<string, number | boolean>>>(
  top: Layer,
  offset: number,
  length: number,
  most: number,
  meaning: (step: StatusStep) => T,
): Promise<readonly Run<T>[]> {
  const runs = new Runs<T>(most);
  for await (const step of statusSteps(layersOf(top), offset, length, { whole: true })) {
    if (!runs.add(meaning(step), step.length)) break;
  }
  return runs.all;
}

class Runs<T extends Readonly<Record<string, number | boolean>>> {
  readonly all: Run<T>[] = [];
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /** False where there was no room for all of it. */
  add(what: T, length: number): boolean {
    for (let left = length; left > 0; left -= LONGEST) {
      if (!this.#addPiece(what, Math.min(LONGEST, left))) return false;
    }
    return true;
  }

  #addPiece(what: T, length: number): boolean {
    const last = this.all.at(-1);
    if (last !== undefined && isSame(last, what) && last.length + length <= LONGEST) {
      this.all[this.all.length - 1] = { ...last, length: last.length + length };
      return true;
    }
    if (this.all.length >= this.#most) return false;
    this.all.push({ ...what, length });
    return true;
  }
}

function isSame<T extends Readonly<Record<string, number | boolean>>>(a: T, b: T): boolean {
  return Object.keys(b).every((key) => a[key] === b[key]);
}

/** What the bitmap of that name calls dirty: of the first layer, from the top, that has one. */
export async function dirtyRuns(
  top: Layer,
  name: string,
  offset: number,
  length: number,
  most: number,
): Promise<readonly DirtyRun[]> {
  const stretches = await dirtyStretches(top, name, offset, offset + length);
  const runs = new Runs<{ readonly dirty: boolean }>(most);
  let at = offset;
  for (const [from, to] of stretches) {
    if (from > at && !runs.add({ dirty: false }, from - at)) return runs.all;
    const start = Math.max(at, from);
    if (to > start && !runs.add({ dirty: true }, to - start)) return runs.all;
    at = Math.max(at, to);
  }
  if (at < offset + length) runs.add({ dirty: false }, offset + length - at);
  return runs.all;
}

type Range = readonly [from: number, to: number];

/** In ascending order, cut to the range; they may overlap. */
async function dirtyStretches(
  top: Layer,
  name: string,
  start: number,
  end: number,
): Promise<readonly Range[]> {
  const image = layersOf(top).find(
    (layer): layer is Qcow2Image =>
      layer instanceof Qcow2Image && layer.bitmaps.list.some((each) => each.name === name),
  );
  const bitmap = image?.bitmaps.list.find((each) => each.name === name);
  if (image === undefined || bitmap === undefined) {
    throw new ImageError('not-found', `Bitmap '${name}' is not found`);
  }
  const found: Range[] = [];
  for await (const batch of image.bitmaps.stretchesOf(bitmap)) {
    for (const [from, to] of batch) {
      if (from < end && to > start) found.push([Math.max(from, start), Math.min(to, end)]);
    }
  }
  return found.sort(([a], [b]) => a - b);
}
