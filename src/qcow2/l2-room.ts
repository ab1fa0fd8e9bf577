// Whether an L1 table can be true: L2 tables are clusters of the file, each by itself.

import type { Storage } from '../io/storage.ts';
import { CorruptionError } from './corruption.ts';
import type { Directory } from './directory.ts';
import { viewOf } from './fields.ts';
import type { Geometry } from './geometry.ts';
import { readTable } from './reference-walk.ts';
import type { ReferencedImage } from './references.ts';
import { MAX_L1_BYTES } from './spec.ts';

/** Entries of L2 tables that are read in no time, whoever shares them. */
const FEW_ENTRIES = 2 ** 26;

/**
 * Throws `corrupt` where the L1 table names more L2 tables than the file has room for: some of them
 * are one, and a small file would have us read for ever.
 */
export function checkRoomForL2(storage: Storage, geometry: Geometry, l1: Directory): void {
  const { halves } = l1;
  let count = 0;
  for (let i = 0; i < halves.length; i += 2) if (halves[i] || halves[i + 1]) count++;
  checkRoom(storage, geometry, count);
}

/**
 * The same of all L1 tables that a repair would walk, many times: what it leaves could not be opened
 * all the same.
 */
export async function checkRoomForRepair(state: ReferencedImage): Promise<void> {
  const { storage, geometry, tables, snapshotTable } = state;
  const l1s = [{ l1TableOffset: tables.l1Offset, l1Size: tables.l1Entries }];
  for (const { l1TableOffset, l1Size } of [...l1s, ...(snapshotTable?.snapshots ?? [])]) {
    // Too few to be too many; or a table of a snapshot that is not walked at all.
    if (l1Size * geometry.l2Entries <= FEW_ENTRIES || l1Size * 8 > MAX_L1_BYTES) continue;
    const l1 = viewOf(await readTable(storage, l1TableOffset, l1Size * 8));
    let count = 0;
    for (let at = 0; at < l1.byteLength; at += 8) {
      if (l1.getUint32(at) !== 0 || l1.getUint32(at + 4) !== 0) count++;
    }
    checkRoom(storage, geometry, count);
  }
}

function checkRoom(storage: Storage, { clusterSize, l2Entries }: Geometry, count: number): void {
  if (count * l2Entries <= FEW_ENTRIES || count * clusterSize <= storage.size) return;
  throw new CorruptionError(
    storage,
    `the L1 table names ${count} L2 tables, and the file has no room for them`,
  );
}
