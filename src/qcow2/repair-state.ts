// An image as its header has it now, read anew after each switch: what a repair starts from.

import type { Storage } from '../io/storage.ts';
import type { Geometry } from './geometry.ts';
import { geometryOfHeader, type Header, parseHeader } from './header.ts';
import { readHeaderCluster } from './header-cluster.ts';
import type { ReferenceVisitor } from './reference-walk.ts';
import type { ReferencedImage, TablePlaces } from './references.ts';
import { readSnapshotTable, type SnapshotLeniency, type SnapshotTable } from './snapshots.ts';

export interface RepairState extends ReferencedImage {
  readonly snapshotTable: SnapshotTable;
}

const SILENT: SnapshotLeniency = {
  tooMuchExtraData: () => undefined,
  tooLong: () => undefined,
};

/** Also of a header that has too many snapshots, and of a snapshot table that is too large. */
export async function readState(
  storage: Storage,
  lenient: SnapshotLeniency = SILENT,
): Promise<RepairState> {
  const header = parseHeader(await readHeaderCluster(storage), 'repair');
  const geometry = geometryOfHeader(header);
  const snapshotTable = await readSnapshotTable(storage, header, lenient);
  return stateOf(storage, { ...header, nbSnapshots: snapshotTable.snapshots.length }, geometry, {
    snapshotTable,
  });
}

export function stateOf(
  storage: Storage,
  header: Header,
  geometry: Geometry,
  { snapshotTable }: Pick<RepairState, 'snapshotTable'>,
): RepairState {
  const tables: TablePlaces = {
    l1Offset: header.l1TableOffset,
    l1Entries: header.l1Size,
    refcountTablePlace: {
      offset: header.refcountTableOffset,
      length: header.refcountTableClusters * geometry.clusterSize,
    },
  };
  return { storage, header, geometry, tables, snapshotTable };
}

/** Says nothing, and takes for zeros what becomes zeros. */
export const QUIET: ReferenceVisitor = {
  misplacedZeros: () => undefined,
};
