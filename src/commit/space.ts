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

/** Counts the bytes that a series of changes, in ascending order, adds to a file. */
interface Growth {
  addData(offset: number, length: number): Promise<void>;
  addTables(offset: number, length: number): Promise<void>;
  /** `covered`: free clusters that refcount blocks have a place for. */
  bytes(covered?: number): Promise<number>;
}

export interface Measured {
  readonly totals: PlanTotals;
  readonly growth: Growth;
}

export async function measure(
  plan: AsyncIterable<readonly PlanStep[]>,
  base: Layer,
  newBaseSize: number,
): Promise<Measured> {
  const growth = new BaseGrowth(base, newBaseSize);
  let ranges = 0;
  let copyBytes = 0;
  let zeroBytes = 0;
  let end = -1;
  for await (const steps of plan) {
    for (const { kind, offset, length } of steps) {
      if (offset !== end) ranges++;
      end = offset + length;
      if (kind === 'copy') copyBytes += length;
      else zeroBytes += length;
      await growth.add(kind, offset, length);
    }
  }
  await growth.finish();
  const growthBytes = await growth.counter.bytes();
  return { totals: { ranges, copyBytes, zeroBytes, growthBytes }, growth: growth.counter };
}

/** The plan's steps, and between them what growing the disk writes. */
class BaseGrowth {
  readonly counter: Growth;
  readonly #base: Layer;
  readonly #newSize: number;
  /** Version 2 has no zero clusters: above a backing file, zeros are data. */
  readonly #zerosAreData: boolean;
  #grown = false;

  constructor(base: Layer, newSize: number) {
    this.#base = base;
    this.#newSize = newSize;
    this.#zerosAreData =
      base instanceof Qcow2Image && base.header.version < 3 && base.backing !== null;
    if (base instanceof Qcow2Image) {
      const counter = base.growthCounter();
      counter.addL1(newSize);
      this.counter = counter;
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
    // The old end may lie within a cluster.
    await this.counter.addData(size, 1);
    await this.#count('zero', size, end - size);
  }

  async #count(kind: PlanStep['kind'], offset: number, length: number): Promise<void> {
    if (kind === 'copy' || this.#zerosAreData) await this.counter.addData(offset, length);
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

/** Too little room: bytes needed and bytes there are. Undefined where it fits or can't be known. */
export async function shortage(
  host: Host,
  base: Layer,
  { totals, growth }: Measured,
): Promise<{ readonly needed: number; readonly free: number } | undefined> {
  const { storage } = base;
  if (totals.growthBytes === 0) return undefined;
  const short = (needed: number, free: number) => (needed > free ? { needed, free } : undefined);
  if (!storage.resizable) {
    if (!(base instanceof Qcow2Image)) return undefined;
    const { inFile, beyond } = await base.freeClusters();
    return short(await growth.bytes(inFile + beyond), inFile * base.clusterSize);
  }
  const free = await host.freeSpace(storage.filename);
  if (free === undefined || totals.growthBytes <= free) return undefined;
  if (!(base instanceof Qcow2Image)) return short(totals.growthBytes, free);
  // Free clusters inside the file are used first; those that are holes save nothing.
  const { inFile, beyond } = await base.freeClusters();
  const holes = Math.max(0, storage.size - ((await storage.allocatedBytes()) ?? 0));
  const reusable = Math.max(0, inFile * base.clusterSize - holes);
  return short(Math.max(0, (await growth.bytes(inFile + beyond)) - reusable), free);
}
