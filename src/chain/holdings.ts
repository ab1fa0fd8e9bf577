// What each layer of a chain holds, and how much of it the layers above hide. Pure over extents: goes
// through the disk in windows, so that memory stays the same whatever the size of the disk.

import { ImageError } from '../errors.ts';
import type { Layer } from '../layer.ts';
import { alignUp, MIB } from '../units.ts';

/** What is asked of a layer. `extents` null: what it holds can't be known. */
export interface Source {
  readonly size: number;
  readonly clusterSize: number;
  readonly extents: Layer['extents'] | null;
}

/** `unknown`: the layer could not say. */
export type HeldKind = 'data' | 'zero' | 'unknown';

export interface Visitor {
  /**
   * The layer `index` (0: top) holds the bytes `from .. to`; `hidden`: a layer above has its own
   * there, or is shorter. For each layer in order of its bytes, without overlaps.
   */
  held(index: number, kind: HeldKind, from: number, to: number, hidden: boolean): void;
  /** Extents of a layer could not be read; told for each stretch that came to be `unknown`. */
  failed?(index: number, error: ImageError): void;
}

interface Run {
  readonly kind: HeldKind;
  readonly from: number;
  readonly to: number;
}

/** Runs in memory at once, of all layers together. */
const BUDGET = 65_536;
const FIRST_SPAN = 16 * MIB;
/** Where extents can't be read, so many parts of the disk are tried by themselves. */
const PARTS = 1024;

/** Tells `visitor` what the layers (top first) hold, to the end of the longest one. */
export async function visitHoldings(sources: readonly Source[], visitor: Visitor): Promise<void> {
  const sizes = sources.map(({ size }) => size);
  const end = Math.max(0, ...sizes);
  let span = FIRST_SPAN;
  for (let at = 0; at < end; ) {
    const window = await collect(sources, at, Math.min(end, at + span), visitor);
    attribute(window, at, sizes, visitor);
    at = window.to;
    if (window.count < BUDGET / 4) span *= 2;
    else if (window.count > BUDGET / 2) span = Math.max(1, Math.floor(span / 2));
  }
}

interface Window {
  readonly lists: Run[][];
  readonly to: number;
  readonly count: number;
}

/** The runs of all layers from `at` on; ends before `to` where they would become too many. */
async function collect(
  sources: readonly Source[],
  at: number,
  to: number,
  visitor: Visitor,
): Promise<Window> {
  const lists: Run[][] = [];
  let end = to;
  let count = 0;
  for (const [index, source] of sources.entries()) {
    const list: Run[] = [];
    lists.push(list);
    for (let position = at; position < end; ) {
      position = await readRuns(source, position, end, list, (e) => visitor.failed?.(index, e));
      while (count + list.length > BUDGET && end - at > 1) {
        end = at + Math.ceil((end - at) / 2);
        count = cutAll(lists, end) - list.length;
      }
    }
    count += list.length;
  }
  return { lists, to: end, count };
}

/** Drops what starts at `end` or later; returns how many runs are left. */
function cutAll(lists: readonly Run[][], end: number): number {
  let count = 0;
  for (const list of lists) {
    while ((list.at(-1)?.from ?? -1) >= end) list.pop();
    count += list.length;
  }
  return count;
}

/** Appends runs from `from` on and returns where they end. */
async function readRuns(
  source: Source,
  from: number,
  to: number,
  runs: Run[],
  failed: (error: ImageError) => void,
): Promise<number> {
  const { size, clusterSize } = source;
  if (from >= size) return to;
  const stop = Math.min(to, size);
  if (source.extents === null) {
    runs.push({ kind: 'unknown', from, to: stop });
    return stop;
  }
  const part = Math.min(stop, alignUp(from + Math.ceil(size / PARTS), clusterSize));
  const extents =
    (await tryExtents(source.extents, from, stop)) ??
    (await tryExtents(source.extents, from, part, failed));
  if (extents === null) {
    runs.push({ kind: 'unknown', from, to: part });
    return part;
  }
  let end = from;
  for (const { kind, offset, length } of extents) {
    end = offset + length;
    if (kind !== 'unallocated') runs.push({ kind, from: offset, to: end });
  }
  return end;
}

async function tryExtents(
  extents: Layer['extents'],
  from: number,
  to: number,
  failed?: (error: ImageError) => void,
): Promise<Awaited<ReturnType<Layer['extents']>> | null> {
  try {
    return await extents(from, to - from);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    failed?.(error);
    return null;
  }
}

/** Sorted and disjoint: from, to, from, to, ... */
type Ranges = readonly number[];

/** From the top down: what a layer holds is hidden where one above has something too. */
function attribute(
  { lists, to }: Window,
  at: number,
  sizes: readonly number[],
  visitor: Visitor,
): void {
  let covered: Ranges = [];
  for (const [index, list] of lists.entries()) {
    const own: number[] = [];
    let near = 0;
    for (const { kind, from, to: runEnd } of list) {
      const end = Math.min(runEnd, to);
      near = splitRun(index, kind, from, end, covered, near, visitor);
      if (kind !== 'unknown') own.push(from, end);
    }
    const size = sizes[index] ?? 0;
    if (size < to) own.push(Math.max(at, size), to);
    covered = union(covered, own);
  }
}

/** Tells of a run in pieces, hidden and not; returns where to look in `covered` for the next run. */
function splitRun(
  index: number,
  kind: HeldKind,
  from: number,
  to: number,
  covered: Ranges,
  near: number,
  visitor: Visitor,
): number {
  let at = from;
  let i = near;
  while (at < to) {
    while (i < covered.length && (covered[i + 1] as number) <= at) i += 2;
    const start = covered[i] ?? Number.POSITIVE_INFINITY;
    const hidden = start <= at;
    const end = Math.min(to, hidden ? (covered[i + 1] as number) : start);
    visitor.held(index, kind, at, end, hidden);
    at = end;
  }
  return i;
}

function union(a: Ranges, b: Ranges): Ranges {
  if (b.length === 0) return a;
  const merged: number[] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    const fromA = j >= b.length || (i < a.length && (a[i] as number) <= (b[j] as number));
    const from = (fromA ? a[i] : b[j]) as number;
    const to = (fromA ? a[i + 1] : b[j + 1]) as number;
    if (fromA) i += 2;
    else j += 2;
    const last = merged.at(-1);
    if (last !== undefined && from <= last) merged[merged.length - 1] = Math.max(last, to);
    else merged.push(from, to);
  }
  return merged;
}
