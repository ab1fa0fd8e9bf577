// Where the structures of an image lie as it is opened for writing.

import type { Storage } from '../io/storage.ts';
import { bitmapDirectoryIn } from './bitmap-directory.ts';
import type { Directory } from './directory.ts';
import { viewOf } from './fields.ts';
import type { Geometry } from './geometry.ts';
import type { Header } from './header.ts';
import { GUARDED, type StructureKind, Structures } from './overlap.ts';
import { readTable } from './reference-walk.ts';
import { readSnapshotTable } from './snapshots.ts';

interface Surveyed {
  readonly header: Header;
  readonly l1: Directory;
  readonly refcountTable: Directory;
  /** Structures to look for. */
  readonly guarded?: ReadonlySet<StructureKind> | undefined;
}

/** Throws `corrupt` where the snapshot table can't be read. */
export async function findStructures(
  storage: Storage,
  geometry: Geometry,
  { header, l1, refcountTable, guarded = GUARDED }: Surveyed,
): Promise<Structures> {
  const structures = new Structures(storage, geometry, guarded);
  const { snapshots, length } = await readSnapshotTable(storage, header);
  structures.place('active-l1', l1);
  structures.place('refcount-table', refcountTable);
  structures.place('snapshot-table', { offset: header.snapshotsOffset, length });
  structures.place('bitmap-directory', bitmapDirectoryIn(header));
  structures.addAll('active-l2', l1.view);
  structures.addAll('refcount-block', refcountTable.view);
  structures.addInactiveL1(snapshots);
  if (!guarded.has('inactive-l2')) return structures;
  for (const { l1TableOffset, l1Size } of snapshots) {
    const table = await readTable(storage, l1TableOffset, l1Size * 8);
    structures.addAll('inactive-l2', viewOf(table));
  }
  return structures;
}
