// Sizes, indexes and counts that follow from cluster size and refcount width. Conversions between
// offsets and table indexes live here and nowhere else.

import { divideUp } from '../units.ts';
import { SUBCLUSTERS } from './spec.ts';

export interface Geometry {
  readonly clusterBits: number;
  /** Data clusters lie in another file, at their offset on the guest's disk. */
  readonly externalData: boolean;
  readonly clusterSize: number;
  readonly extendedL2: boolean;
  /** What an entry can tell apart: a part of the cluster with extended L2 entries, else all of it. */
  readonly subclusterSize: number;
  /** 8, or 16 with extended L2 entries. */
  readonly l2EntryBytes: number;
  /** Entries in an L2 table, which is one cluster. */
  readonly l2Entries: number;
  /** Bytes of guest disk that one L2 table maps. */
  readonly l2Coverage: number;
  readonly refcountOrder: number;
  readonly refcountBits: number;
  /** Entries in a refcount block, which is one cluster. */
  readonly refcountBlockEntries: number;
  /** Largest refcount that an entry can hold (64-bit entries: what a number holds exactly). */
  readonly maxRefcount: number;
}

export function geometryOf(
  clusterBits: number,
  refcountOrder: number,
  extendedL2: boolean,
  externalData = false,
): Geometry {
  const clusterSize = 2 ** clusterBits;
  const l2EntryBytes = extendedL2 ? 16 : 8;
  const l2Entries = clusterSize / l2EntryBytes;
  const refcountBits = 2 ** refcountOrder;
  return {
    clusterBits,
    externalData,
    clusterSize,
    extendedL2,
    subclusterSize: extendedL2 ? clusterSize / SUBCLUSTERS : clusterSize,
    l2EntryBytes,
    l2Entries,
    l2Coverage: l2Entries * clusterSize,
    refcountOrder,
    refcountBits,
    refcountBlockEntries: (clusterSize * 8) / refcountBits,
    maxRefcount: refcountBits >= 53 ? Number.MAX_SAFE_INTEGER : 2 ** refcountBits - 1,
  };
}

/** L1 entries needed to map a virtual disk of `size` bytes. */
export function l1EntriesFor(size: number, geometry: Geometry): number {
  return divideUp(size, geometry.l2Coverage);
}

export function l1IndexOf(guest: number, geometry: Geometry): number {
  return Math.floor(guest / geometry.l2Coverage);
}

export function l2IndexOf(guest: number, geometry: Geometry): number {
  return Math.floor(guest / geometry.clusterSize) % geometry.l2Entries;
}

/** Index of the cluster that holds a byte of the guest's disk or of the image file. */
export function clusterIndexOf(offset: number, geometry: Geometry): number {
  return Math.floor(offset / geometry.clusterSize);
}

export function refcountTableIndexOf(clusterIndex: number, geometry: Geometry): number {
  return Math.floor(clusterIndex / geometry.refcountBlockEntries);
}
