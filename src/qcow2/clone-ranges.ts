// Many short ranges whose bytes lie as they are in other files: places for all of them, then their
// extents are shared, then the map points to them. No bytes move, and each step is taken once for
// all, as a range by itself would cost more than sharing it.

import type { CloneRange } from '../io/storage.ts';
import type { PlacedRange } from '../layer.ts';
import { type PlaceContext, type Placement, place } from './place.ts';
import { publish } from './publish.ts';
import { giveUp, type Writer } from './writer.ts';

/** How many of `ranges`, from the first on, whole clusters of the disk in its order, go together. */
export async function countClonable(
  context: PlaceContext,
  ranges: readonly PlacedRange[],
): Promise<number> {
  const { data, geometry } = context;
  if (data.opaque) return 0;
  let reached = 0;
  let count = 0;
  for (const { offset, length, host } of ranges) {
    if (offset < reached || length === 0) break;
    if (offset % geometry.clusterSize !== 0 || length % geometry.clusterSize !== 0) break;
    // Asked before there are places: those that are given back are not free at once.
    if ((await data.storage.canClone?.(host.storage)) !== true) break;
    reached = offset + length;
    count++;
  }
  return count;
}

/** Resolves to how many of the ranges, from the first on, are done. */
export function cloneRanges(
  writer: Writer,
  context: PlaceContext,
  ranges: readonly PlacedRange[],
): Promise<number> {
  const [first, last] = [ranges[0], ranges.at(-1)];
  if (first === undefined || last === undefined) return Promise.resolve(0);
  return writer.ranges.exclusive(first.offset, last.offset + last.length, async () => {
    const places: Placement[][] = [];
    let published = 0;
    try {
      await writer.queue.run(async () => {
        for (const { offset, length } of ranges) places.push(await place(context, offset, length));
      });
      const done = await share(context, ranges, places);
      await writer.queue.run(async () => {
        await publish(context, places.slice(0, done).flat(), false);
        published = done;
        await writer.checkpointIfFull();
      });
      return done;
    } finally {
      const left = places.slice(published).flat();
      if (left.length > 0) await writer.queue.run(() => giveUp(context, left));
    }
  });
}

/** How many of the ranges, from the first on, are whole at their places. */
async function share(
  { data, geometry }: PlaceContext,
  ranges: readonly PlacedRange[],
  places: readonly (readonly Placement[])[],
): Promise<number> {
  const wanted: CloneRange[] = [];
  const ends: number[] = [];
  const { clusterSize } = geometry;
  for (const [i, { offset, host }] of ranges.entries()) {
    for (const { guest, host: to, clusters } of places[i] ?? []) {
      const from = host.offset + (guest - offset);
      wanted.push({ source: host.storage, from, to, length: clusters * clusterSize });
    }
    ends.push(wanted.length);
  }
  const done = (await data.storage.cloneFrom?.(wanted)) ?? 0;
  const firstLeft = ends.findIndex((end) => end > done);
  return firstLeft === -1 ? ends.length : firstLeft;
}
