// Which part of a cluster has to have all its bytes before the map says that they are there. A whole
// cluster as a rule; with subclusters those that a write touches, and in a new cluster those that
// the old one had. The others stay what they are: what lies below shines through them. Pure.

import type { Geometry } from './geometry.ts';
import type { L2Entry } from './l2-entry.ts';
import { allocatedAt, bitsBetween, highest, lowest } from './subclusters.ts';

/** Bytes of a cluster, from its first one on. */
export interface Part {
  readonly from: number;
  readonly to: number;
}

/** For a write into subclusters of the host cluster that the entry has; null: all are there. */
export function missingIn(
  { subclusterSize }: Geometry,
  view: DataView,
  position: number,
  written: Part,
): Part | null {
  const allocated = allocatedAt(view, position);
  const first = Math.floor(written.from / subclusterSize);
  const end = Math.ceil(written.to / subclusterSize);
  const has = (from: number, to: number) => (bitsBetween(from, to) & ~allocated) === 0;
  if (has(first, end)) return null;
  return {
    from: has(first, first + 1) ? written.from : first * subclusterSize,
    to: has(end - 1, end) ? written.to : end * subclusterSize,
  };
}

/** For a write of `written` into a new cluster that takes the place of what the entry says. */
export function neededInNew(
  { extendedL2, clusterSize, subclusterSize }: Geometry,
  view: DataView,
  position: number,
  entry: L2Entry,
  written: Part,
): Part {
  if (!extendedL2 || entry.kind === 'compressed') return { from: 0, to: clusterSize };
  let first = Math.floor(written.from / subclusterSize);
  let end = Math.ceil(written.to / subclusterSize);
  const held = allocatedAt(view, position);
  if (held !== 0) {
    // In one piece, as QEMU does: what lies between two that are held is held too afterwards.
    first = Math.min(first, lowest(held));
    end = Math.max(end, highest(held) + 1);
  }
  return { from: first * subclusterSize, to: end * subclusterSize };
}
