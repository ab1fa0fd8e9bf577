// L2 entries that set a cluster aside for zeros at a place where none can be: they become zeros
// alone, which is what they show.

import { viewOf } from './fields.ts';
import type { Geometry } from './geometry.ts';
import { clusterOffset } from './l2-entry.ts';
import { COMPRESSED_HIGH, EXTENDED_ENTRY, ZERO_LOW } from './spec.ts';

/** Changes a table; true where there was something to change. */
export function mendZeros(
  table: Uint8Array,
  { clusterSize, l2EntryBytes }: Pick<Geometry, 'clusterSize' | 'l2EntryBytes'>,
): boolean {
  const view = viewOf(table);
  let mended = false;
  for (let at = 0; at < table.length; at += l2EntryBytes) {
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    if (high & COMPRESSED_HIGH || clusterOffset(high, low) % clusterSize === 0) continue;
    const isExtended = l2EntryBytes === 16;
    const hasData = isExtended
      ? view.getUint32(at + EXTENDED_ENTRY.allocated) !== 0
      : (low & ZERO_LOW) === 0;
    if (hasData) continue;
    view.setUint32(at, 0);
    view.setUint32(at + 4, isExtended ? 0 : ZERO_LOW);
    mended = true;
  }
  return mended;
}
