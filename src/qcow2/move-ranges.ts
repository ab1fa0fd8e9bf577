// Many ranges whose bytes lie as they are in other files: places for all of them, in the order in
// which they lie there, then their bytes move, then the map points to them. Each step is taken once
// for all, and what lies together in its source moves in one piece: extents are shared where they can
// be, the rest is copied.

import type { PlacedRanges } from '../io/placed-ranges.ts';
import type { CloneRange } from '../io/storage.ts';
import type { MoveWatch } from '../layer.ts';
import { MIB } from '../units.ts';
import { movePieces } from './move-pieces.ts';
import { type PlaceContext, type Placement, place } from './place.ts';
import { publish } from './publish.ts';
import { SourceOrder } from './source-order.ts';
import { giveUp, type Writer } from './writer.ts';

/** L2 tables that are changed in one go, in bytes: all of them are in memory at once. */
const TABLES_TOGETHER = 8 * MIB;

/** How many of `ranges`, from the first on, whole clusters of the disk in its order, can go together. */
export function countMovable({ data, geometry }: PlaceContext, ranges: PlacedRanges): number {
  // Who listens to events wants to hear of each range by itself.
  if (data.opaque || data.storage.event !== undefined) return 0;
  const { clusterSize, l2Coverage } = geometry;
  let reached = 0;
  let count = 0;
  let tables = 0;
  let lastTable = -1;
  for (const { offset, length, host } of ranges) {
    if (offset < reached || length === 0 || host.storage.event !== undefined) break;
    if (offset % clusterSize !== 0 || length % clusterSize !== 0) break;
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

/** Rejects when all that is under way has ended; what has moved by then is published. */
export function moveRanges(
  writer: Writer,
  context: PlaceContext,
  ranges: PlacedRanges,
  watch: MoveWatch,
): Promise<void> {
  const [first, last] = [ranges.at(0), ranges.at(ranges.length - 1)];
  if (first === undefined || last === undefined) return Promise.resolve();
  const { clusterSize } = context.geometry;
  return writer.ranges.exclusive(first.offset, last.offset + last.length, async () => {
    const order = new SourceOrder(clusterSize);
    /** What was taken and is not in use. */
    let unused = () => [...order.taken()];
    try {
      await writer.queue.run(async () => {
        for (const range of ranges) {
          order.add(range, await place(context, range.offset, range.length));
        }
      });
      const outcome = await movePieces(context.data.storage, order.pieces(), watch);
      const { whole, missing } = partsOf(order, outcome.left, clusterSize);
      await writer.queue.run(async () => {
        // The map may point to them from here on: where it fails half-way, they are lost.
        unused = () => missing;
        await publish(context, whole, false);
        await writer.checkpointIfFull();
      });
      if (outcome.failure !== undefined) throw outcome.failure.reason;
    } finally {
      const left = unused();
      if (left.length > 0) await writer.queue.run(() => giveUp(context, left));
    }
  });
}

/** Places that are whole, and those to which anything is still to be moved. */
function partsOf(
  order: SourceOrder,
  left: readonly CloneRange[],
  clusterSize: number,
): { readonly whole: Iterable<Placement>; readonly missing: Placement[] } {
  if (left.length === 0) return { whole: order.places(), missing: [] };
  const hosts = new Set<number>();
  for (const { to, length } of left) {
    for (let host = to; host < to + length; host += clusterSize) hosts.add(host);
  }
  const isMissing = ({ host, clusters }: Placement): boolean =>
    Array.from({ length: clusters }, (_, n) => host + n * clusterSize).some((at) => hosts.has(at));
  const places = [...order.places()];
  return {
    whole: places.filter((each) => !isMissing(each)),
    missing: places.filter(isMissing),
  };
}
