// The entries of an L2 table, standard or extended: what each says about its cluster as a whole.

import { ImageError } from '../errors.ts';
import type { Geometry } from './geometry.ts';
import { decodeL2Entry, type L2Entry } from './l2-entry.ts';
import { allocatedAt, zeroedAt } from './subclusters.ts';
import type { Table } from './table-cache.ts';

/** The zero flag of an extended entry is reserved, as it is in version 2. */
const VERSION_WITHOUT_ZERO_FLAG = 2;

/**
 * What the entry says. An extended one with a host cluster is `data` even where none of its
 * subclusters has any; its bitmaps are checked. Throws `corrupt`.
 */
export function l2EntryAt(
  table: Pick<Table, 'offset' | 'view'>,
  index: number,
  geometry: Geometry,
  version: number,
): L2Entry {
  const { view } = table;
  const { extendedL2, l2EntryBytes } = geometry;
  const position = index * l2EntryBytes;
  const high = view.getUint32(position);
  const low = view.getUint32(position + 4);
  if (!extendedL2) return decodeL2Entry(high, low, geometry, version);
  const entry = decodeL2Entry(high, low, geometry, VERSION_WITHOUT_ZERO_FLAG);
  // Compressed clusters have no subclusters: their bitmaps mean nothing.
  if (entry.kind === 'compressed') return entry;
  const allocated = allocatedAt(view, position);
  const impossible = entry.kind === 'data' ? allocated & zeroedAt(view, position) : allocated;
  if (impossible === 0) return entry;
  throw new ImageError(
    'corrupt',
    `Invalid cluster entry found (L2 offset: 0x${table.offset.toString(16)}, ` +
      `L2 index: 0x${index.toString(16)})`,
  );
}
