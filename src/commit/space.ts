// What a plan amounts to, and the space that it needs in base's file system.

import { directoryOf } from '../chain/filename.ts';
import { ImageError } from '../errors.ts';
import type { Host } from '../io/host.ts';
import type { Storage } from '../io/storage.ts';
import type { Layer } from '../layer.ts';
import type { GrowingBitmap } from '../qcow2/bitmap-growth.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { differing } from './identical.ts';
import { type PlanStep, zerosAreData } from './plan.ts';
import type { Reclaim } from './reclaim.ts';
import { windowsOf } from './windows.ts';

export interface PlanTotals {
  /** Contiguous ranges of the disk that are copied or zeroed. */
  readonly ranges: number;
  readonly copyBytes: number;
  readonly zeroBytes: number;
  /** Bytes of these that base shows already; null where that is not looked at. */
  readonly identicalBytes: number | null;
  /** Bytes by which base's use of its file system or device grows, at most. */
  readonly growthBytes: number;
  /** The most of that at a time, where the layers above free space meanwhile. */
  readonly peakBytes: number;
}

/** Counts the bytes that a series of changes, in ascending order, adds to a file. */
interface Growth {
  /** `anew`: also what has a place in the file gets another one. */
  addData(offset: number, length: number, anew?: boolean): Promise<void>;
  addTables(offset: number, length: number): Promise<void>;
  /** `covered`: free clusters that refcount blocks have a place for. */
  bytes(covered?: number): Promise<number>;
}

export interface Measured {
  readonly totals: PlanTotals;
  readonly growth: Growth;
  /** What `growthBytes` has of an external data file. */
  readonly dataFileBytes: number;
  /** What of it, or else of all, need not be there at the same time. */
  readonly sparedBytes: number;
}

/** How base is written to, and what notes it. */
export interface Manner {
  readonly compress: boolean;
  readonly bitmaps: readonly GrowingBitmap[];
  /** Compares with what base shows, and leaves out of the growth what is there. */
  readonly skipIdentical?: boolean;
}

export async function measure(
  plan: AsyncIterable<readonly PlanStep[]>,
  base: Layer,
  newBaseSize: number,
  manner: Manner,
  reclaim: Reclaim | null,
): Promise<Measured> {
  const growth = new BaseGrowth(base, newBaseSize, manner);
  let ranges = 0;
  let copyBytes = 0;
  let zeroBytes = 0;
  let end = -1;
  let identicalBytes = 0;
  const skipped = (bytes: number) => {
    identicalBytes += bytes;
  };
  const grow = async (steps: readonly PlanStep[]) => {
    for (const { kind, offset, length } of steps) await growth.add(kind, offset, length);
  };
  const count = async (steps: readonly PlanStep[]) => {
    for (const { kind, offset, length } of steps) {
      if (offset !== end) ranges++;
      end = offset + length;
      if (kind === 'copy') copyBytes += length;
      else zeroBytes += length;
    }
    if (!manner.skipIdentical) return await grow(steps);
    for await (const left of differing([steps], { base, skipped })) await grow(left);
  };
  let freed = 0;
  let peak = 0;
  if (reclaim === null) for await (const steps of plan) await count(steps);
  else {
    for await (const window of windowsOf(plan, reclaim.shape)) {
      await count(window.steps);
      peak = Math.max(peak, (await growth.bytes()) - freed);
      freed += await reclaim.givesBack(window);
    }
  }
  await growth.finish();
  const dataFileBytes = growth.dataFile?.bytes ?? 0;
  const growthBytes = (await growth.counter.bytes()) + dataFileBytes;
  const sparedBytes =
    reclaim === null ? 0 : Math.max(0, (await growth.bytes()) - growth.growingBytes - peak);
  const peakBytes = growthBytes - sparedBytes;
  const compared = { identicalBytes: manner.skipIdentical ? identicalBytes : null };
  const totals = { ranges, copyBytes, zeroBytes, ...compared, growthBytes, peakBytes };
  return { totals, growth: growth.counter, dataFileBytes, sparedBytes };
}

/** The plan's steps, and between them what growing the disk writes. */
class BaseGrowth {
  readonly counter: Growth;
  /** Base keeps its data elsewhere. */
  readonly dataFile: FileHoles | undefined;
  readonly #base: Layer;
  readonly #newSize: number;
  readonly #zerosAreData: boolean;
  /** Whatever is written gets a new place, as compressed clusters do. */
  readonly #anew: boolean;
  #grown = false;
  /** What growing the disk takes; it is done before all else. */
  growingBytes = 0;

  constructor(base: Layer, newSize: number, { compress, bitmaps }: Manner) {
    this.#base = base;
    this.#anew = compress;
    this.#newSize = newSize;
    this.#zerosAreData = zerosAreData(base);
    if (base instanceof Qcow2Image) {
      const counter = base.growthCounter(newSize, bitmaps);
      counter.addL1(newSize);
      this.counter = counter;
      this.dataFile = base.data.external ? new FileHoles(base.data.storage) : undefined;
    } else this.counter = new HoleCounter(base);
  }

  async add(kind: PlanStep['kind'], offset: number, length: number): Promise<void> {
    const border = Math.max(offset, Math.min(this.#base.size, offset + length));
    if (border > offset) await this.#count(kind, offset, border - offset);
    if (border === offset + length) return;
    await this.finish();
    await this.#count(kind, border, offset + length - border);
  }

  /** Growing hides what a longer backing file has behind the old end. */
  async finish(): Promise<void> {
    const { size, backing } = this.#base;
    const end = Math.min(this.#newSize, backing?.size ?? 0);
    if (this.#grown || end <= size) return;
    this.#grown = true;
    const before = await this.bytes();
    // The old end may lie within a cluster.
    await this.counter.addData(size, 1);
    await this.#count('zero', size, end - size);
    this.growingBytes = (await this.bytes()) - before;
  }

  /** Of the file that gets the data. */
  async bytes(): Promise<number> {
    return this.dataFile?.bytes ?? (await this.counter.bytes());
  }

  async #count(kind: PlanStep['kind'], offset: number, length: number): Promise<void> {
    const isData = kind === 'copy' || this.#zerosAreData;
    if (isData) await this.dataFile?.add(offset, length);
    if (isData) await this.counter.addData(offset, length, this.#anew);
    else await this.counter.addTables(offset, length);
  }
}

/** Raw base: data written into a hole, or past the end, takes space. */
class HoleCounter implements Growth {
  readonly #base: Layer;
  #bytes = 0;

  constructor(base: Layer) {
    this.#base = base;
  }

  async addData(offset: number, length: number): Promise<void> {
    const end = Math.min(offset + length, this.#base.size);
    this.#bytes += offset + length - Math.max(offset, end);
    for (let at = offset; at < end; ) {
      for (const extent of await this.#base.extents(at, end - at)) {
        if (extent.kind !== 'data') this.#bytes += extent.length;
        at = extent.offset + extent.length;
      }
    }
  }

  async addTables(): Promise<void> {}

  async bytes(): Promise<number> {
    return this.#bytes;
  }
}

/** Data written into the holes of a file, or past its end, takes space. */
class FileHoles {
  bytes = 0;
  readonly #storage: Storage;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  async add(offset: number, length: number): Promise<void> {
    const end = offset + length;
    const inside = Math.min(end, this.#storage.size);
    for (let at = offset; at < inside; ) {
      const extent = await this.#storage.extentAt(at);
      const stop = Math.min(inside, extent.end);
      if (!extent.data) this.bytes += stop - at;
      at = stop;
    }
    this.bytes += Math.max(0, end - Math.max(offset, inside));
  }
}

/** Too little room for a file: bytes needed and bytes there are. */
export interface Shortage {
  readonly filename: string;
  readonly needed: number;
  readonly free: number;
}

/** With both numbers, and what to do. `more`: words behind the name, `advice`: behind the hint. */
export function spaceError(
  base: Layer,
  { filename, needed, free }: Shortage,
  more = '',
  advice = '',
): ImageError {
  const place = base.storage.resizable
    ? `in '${directoryOf(filename) || './'}', and`
    : 'on the device, where';
  return new ImageError(
    'no-space',
    `'${filename}'${more} needs ${needed} bytes more ${place} ${free} are free`,
    { errno: 'ENOSPC', hint: `Make room, or use --force to try all the same.${advice}` },
  );
}

/** Undefined where all fits or nobody can know. */
export async function shortage(
  host: Host,
  base: Layer,
  { totals, growth, dataFileBytes, sparedBytes }: Measured,
): Promise<Shortage | undefined> {
  const { storage } = base;
  if (totals.growthBytes === 0) return undefined;
  const short = (needed: number, free: number, filename = storage.filename) =>
    needed > free ? { filename, needed, free } : undefined;
  if (!storage.resizable) {
    if (!(base instanceof Qcow2Image)) return undefined;
    const { inFile, beyond } = await base.freeClusters();
    return short(await growth.bytes(inFile + beyond), inFile * base.clusterSize);
  }
  const external = base instanceof Qcow2Image && base.data.external;
  if (external) {
    const { filename } = base.data.storage;
    const needed = dataFileBytes - sparedBytes;
    const dataFree = await host.freeSpace(filename);
    if (dataFree !== undefined && needed > dataFree) return short(needed, dataFree, filename);
  }
  const free = await host.freeSpace(storage.filename);
  const spared = external ? 0 : sparedBytes;
  const own = totals.growthBytes - dataFileBytes - spared;
  if (free === undefined || own <= free) return undefined;
  if (!(base instanceof Qcow2Image)) return short(own, free);
  // Free clusters inside the file are used first; those that are holes save nothing.
  const { inFile, beyond } = await base.freeClusters();
  const holes = Math.max(0, storage.size - ((await storage.allocatedBytes()) ?? 0));
  const reusable = Math.max(0, inFile * base.clusterSize - holes);
  const needed = (await growth.bytes(inFile + beyond)) - reusable - spared;
  return short(Math.max(0, needed), free);
}
