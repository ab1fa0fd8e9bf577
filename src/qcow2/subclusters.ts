// The two bitmaps of an extended L2 entry, each a 32-bit integer (signed or not: only bits count) in
// which bit x stands for subcluster x of the cluster. Pure, and without an object per entry.

import { EXTENDED_ENTRY, SUBCLUSTERS } from './spec.ts';

export const ALL_SUBCLUSTERS = 0xffff_ffff;

/** Has bytes of its own in the host cluster. */
export function allocatedAt(view: DataView, position: number): number {
  return view.getUint32(position + EXTENDED_ENTRY.allocated);
}

/** Reads as zeros, whatever lies in the host cluster or below. */
export function zeroedAt(view: DataView, position: number): number {
  return view.getUint32(position + EXTENDED_ENTRY.zeroed);
}

export function setSubclusters(
  view: DataView,
  position: number,
  allocated: number,
  zeroed: number,
): void {
  view.setUint32(position + EXTENDED_ENTRY.allocated, allocated);
  view.setUint32(position + EXTENDED_ENTRY.zeroed, zeroed);
}

/** The bits of subclusters `from .. to`. */
export function bitsBetween(from: number, to: number): number {
  return bitsBelow(to) & ~bitsBelow(from);
}

function bitsBelow(end: number): number {
  // A shift takes its count modulo 32.
  return end >= SUBCLUSTERS ? ALL_SUBCLUSTERS : (1 << end) - 1;
}

/** How many subclusters from `index` on, that one included, are what it is. */
export function alikeFrom(allocated: number, zeroed: number, index: number): number {
  const like = (bits: number) => ((bits >>> index) & 1 ? bits : ~bits);
  const different = ~((like(allocated) & like(zeroed)) >>> index);
  return different === 0 ? SUBCLUSTERS : lowest(different);
}

/** Index of the lowest bit; there has to be one. */
export function lowest(bits: number): number {
  return 31 - Math.clz32(bits & -bits);
}

/** Index of the highest bit; there has to be one. */
export function highest(bits: number): number {
  return 31 - Math.clz32(bits);
}
