// What a guest no longer needs, given back: whole clusters that take space, and nothing that would cost
// any.

import type { Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { alignDown, alignUp } from '../units.ts';

/** The range reads as zeros afterwards, or as before. */
export async function discardIn(layer: Layer, offset: number, length: number): Promise<void> {
  if (!(layer instanceof Qcow2Image)) {
    await layer.storage.discard(offset, length);
    return;
  }
  // Version 2 has no zero flag: over a backing file zeros would be data.
  if (layer.header.version < 3 && layer.backing !== null) return;
  const { clusterSize, size } = layer;
  const end = offset + length === size ? size : alignDown(offset + length, clusterSize);
  for (let at = alignUp(offset, clusterSize); at < end; ) {
    for (const extent of await layer.extents(at, end - at)) {
      const stop = extent.offset + extent.length;
      if (extent.kind === 'data') await layer.zero(at, stop - at);
      at = stop;
    }
  }
}
