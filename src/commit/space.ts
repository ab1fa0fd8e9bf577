// What a plan amounts to, and the space that it needs in base's file system.

import type { Host } from '../io/host.ts';
import type { Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import type { PlanStep } from './plan.ts';

export interface PlanTotals {
  /** Contiguous ranges of the disk that are copied or zeroed. */
  readonly ranges: number;
  readonly copyBytes: number;
  readonly zeroBytes: number;
  /** Bytes by which base's use of its file system or device grows, at most. */
  readonly growthBytes: number;
}

export async function measure(
  plan: AsyncIterable<readonly PlanStep[]>,
  base: Layer,
): Promise<PlanTotals> {
  const growth = base instanceof Qcow2Image ? base.growthCounter() : new HoleCounter(base);
  let ranges = 0;
  let copyBytes = 0;
  let zeroBytes = 0;
  let end = -1;
  for await (const steps of plan) {
    for (const { kind, offset, length } of steps) {
      if (offset !== end) ranges++;
      end = offset + length;
      if (kind === 'copy') {
        copyBytes += length;
        await growth.addData(offset, length);
      } else {
        zeroBytes += length;
        if (zerosAreWritten(base)) await growth.addData(offset, length);
        else await growth.addTables(offset, length);
      }
    }
  }
  return { ranges, copyBytes, zeroBytes, growthBytes: growth.bytes };
}

/** Version 2 has no zero clusters: above a backing file, zeros are data. */
function zerosAreWritten(base: Layer): boolean {
  return base instanceof Qcow2Image && base.header.version < 3 && base.backing !== null;
}

/** Raw base: data written into a hole, or past the end, takes space. */
class HoleCounter {
  readonly #base: Layer;
  bytes = 0;

  constructor(base: Layer) {
    this.#base = base;
  }

  async addData(offset: number, length: number): Promise<void> {
    const end = Math.min(offset + length, this.#base.size);
    this.bytes += offset + length - Math.max(offset, end);
    for (let at = offset; at < end; ) {
      for (const extent of await this.#base.extents(at, end - at)) {
        if (extent.kind !== 'data') this.bytes += extent.length;
        at = extent.offset + extent.length;
      }
    }
  }

  async addTables(): Promise<void> {}
}

/** Too little room: bytes needed and bytes there are. Undefined where it fits or can't be known. */
export async function shortage(
  host: Host,
  base: Layer,
  growthBytes: number,
): Promise<{ readonly needed: number; readonly free: number } | undefined> {
  const { storage } = base;
  if (!storage.resizable) {
    if (!(base instanceof Qcow2Image)) return undefined;
    const free = await base.freeBytes();
    return growthBytes > free ? { needed: growthBytes, free } : undefined;
  }
  const free = await host.freeSpace(storage.filename);
  if (free === undefined || growthBytes <= free) return undefined;
  if (!(base instanceof Qcow2Image)) return { needed: growthBytes, free };
  // Free clusters inside the file are used first; those that are holes save nothing.
  const holes = Math.max(0, storage.size - (await storage.allocatedBytes()));
  const reusable = Math.max(0, (await base.freeBytes()) - holes);
  const needed = growthBytes - Math.min(growthBytes, reusable);
  return needed > free ? { needed, free } : undefined;
}
