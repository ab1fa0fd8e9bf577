// Room in the L1 table for a larger disk. The disk's size itself changes in image.ts, later.

import { ImageError } from '../errors.ts';
import { divideUp } from '../units.ts';
import { l1EntriesFor } from './geometry.ts';
import type { PlaceContext } from './place.ts';
import { MAX_L1_BYTES } from './spec.ts';

/** Makes the L1 table cover `size` bytes. Called by the holder of the image's queue. */
export async function growTables(context: PlaceContext, size: number): Promise<void> {
  const { geometry, tables, allocator } = context;
  const entries = l1EntriesFor(size, geometry);
  if (entries <= tables.l1Entries) return;
  checkReachable(context.filename, entries);
  const { host } = await allocator.takeContiguous(divideUp(entries * 8, geometry.clusterSize));
  tables.moveL1(host, entries);
}

export function checkReachable(filename: string, l1Entries: number): void {
  if (l1Entries * 8 <= MAX_L1_BYTES) return;
  throw new ImageError(
    'invalid',
    `${filename}: the size needs an L1 table of ${l1Entries * 8} bytes; the most is ${MAX_L1_BYTES}`,
    { errno: 'EFBIG' },
  );
}
