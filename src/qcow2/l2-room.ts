// Whether an L1 table can be true: L2 tables are clusters of the file, each by itself.

import type { Storage } from '../io/storage.ts';
import { CorruptionError } from './corruption.ts';
import type { Directory } from './directory.ts';
import type { Geometry } from './geometry.ts';

/** Entries of L2 tables that are read in no time, whoever shares them. */
const FEW_ENTRIES = 2 ** 26;

/**
 * Throws `corrupt` where the L1 table names more L2 tables than the file has room for: some of them
 * are one, and a small file would have us read for ever.
 */
export function checkRoomForL2(storage: Storage, geometry: Geometry, l1: Directory): void {
  const { clusterSize, l2Entries } = geometry;
  const { halves } = l1;
  let count = 0;
  for (let i = 0; i < halves.length; i += 2) if (halves[i] || halves[i + 1]) count++;
  if (count * l2Entries <= FEW_ENTRIES || count * clusterSize <= storage.size) return;
  throw new CorruptionError(
    storage,
    `the L1 table names ${count} L2 tables, and the file has no room for them`,
  );
}
