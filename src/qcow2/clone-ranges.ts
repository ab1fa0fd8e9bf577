// Many ranges whose bytes lie as they are in other files: places for all of them, in the order in
// which they lie there, then their extents are shared, then the map points to them. No bytes move,
// each step is taken once for all, and what lies together in its source is shared in one piece: each
// call of the kernel costs more than the rest.

import type { CloneRange, Storage } from '../io/storage.ts';
import type { PlacedRange } from '../layer.ts';
import { MIB } from '../units.ts';
import { type PlaceContext, type Placement, place } from './place.ts';
import { publish } from './publish.ts';
import { inSourceOrder } from './source-order.ts';
import { giveUp, type Writer } from './writer.ts';

/** L2 tables that are changed in one go, in bytes: all of them are in memory at once. */
const TABLES_TOGETHER = 8 * MIB;

/**
 * How many of `ranges`, from the first on, whole clusters of the disk in its order, can go together,
 * and would be worth it.
 */
export async function countClonable(
  context: PlaceContext,
  ranges: readonly PlacedRange[],
): Promise<number> {
  const { data, geometry } = context;
  if (data.opaque) return 0;
  const { clusterSize, l2Coverage } = geometry;
  let reached = 0;
  let count = 0;
  let tables = 0;
  let lastTable = -1;
  let source: Storage | undefined;
  for (const { offset, length, host } of ranges) {
    if (offset < reached || length === 0) break;
    if (offset % clusterSize !== 0 || length % clusterSize !== 0) break;
    // Asked before there are places: those that are given back are not free at once.
    if (host.storage !== source && (await data.storage.canClone?.(host.storage)) !== true) break;
    source = host.storage;
    const first = Math.floor(offset / l2Coverage);
    const last = Math.floor((offset + length - 1) / l2Coverage);
    tables += last - Math.max(lastTable, first - 1);
    lastTable = last;
    if (count > 0 && tables * clusterSize > TABLES_TOGETHER) break;
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
  const { clusterSize } = context.geometry;
  return writer.ranges.exclusive(first.offset, last.offset + last.length, async () => {
    const placed: Placement[][] = [];
    let left: readonly Placement[] | undefined;
    try {
      await writer.queue.run(async () => {
        for (const { offset, length } of ranges) placed.push(await place(context, offset, length));
      });
      const { places, clones } = inSourceOrder(ranges, placed, clusterSize);
      const done = (await context.data.storage.cloneFrom?.(clones)) ?? 0;
      const { whole, missing } = partsOf(places, clones.slice(done), clusterSize);
      await writer.queue.run(async () => {
        await publish(context, whole, false);
        left = missing;
        await writer.checkpointIfFull();
      });
      return countWhole(ranges, missing);
    } finally {
      const unused = left ?? placed.flat();
      if (unused.length > 0) await writer.queue.run(() => giveUp(context, unused));
    }
  });
}

/** Places that are whole, and those of which anything is still to be cloned. */
function partsOf(
  places: readonly Placement[],
  left: readonly CloneRange[],
  clusterSize: number,
): { readonly whole: readonly Placement[]; readonly missing: readonly Placement[] } {
  if (left.length === 0) return { whole: places, missing: [] };
  const hosts = new Set<number>();
  for (const { to, length } of left) {
    for (let host = to; host < to + length; host += clusterSize) hosts.add(host);
  }
  const isMissing = ({ host, clusters }: Placement): boolean =>
    Array.from({ length: clusters }, (_, n) => host + n * clusterSize).some((at) => hosts.has(at));
  return {
    whole: places.filter((each) => !isMissing(each)),
    missing: places.filter(isMissing),
  };
}

/** How many of the ranges, from the first on, have nothing in the missing places. */
function countWhole(ranges: readonly PlacedRange[], missing: readonly Placement[]): number {
  const first = missing.reduce((least, { guest }) => Math.min(least, guest), Infinity);
  const count = ranges.findIndex(({ offset, length }) => offset + length > first);
  return count === -1 ? ranges.length : count;
}
