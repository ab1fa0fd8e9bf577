// The write path of one image: where bytes go (place), somebody moves them there, the map changes
// (publish). Bytes move in parallel; what changes tables goes through the image's one queue.

import type { Storage } from '../io/storage.ts';
import type { Layer } from '../layer.ts';
import { alignDown, alignUp, divideUp, MIB } from '../units.ts';
import { type MapRun, mapRuns } from './mapping.ts';
import { Mutex, RangeLocks } from './mutex.ts';
import { abandon, type PlaceContext, type Placement, place } from './place.ts';
import { publish, unmap, zeroPart } from './publish.ts';
import { growTables } from './resize.ts';

/** Moves bytes `from .. from + length` of what is being written to `host` in the image's file. */
export type Mover = (host: number, from: number, length: number) => Promise<void>;

/** What is written: data, or places alone. */
export type WriteAs = 'data' | 'reserved' | 'zero';

/** What the writer has to know of its image. */
export interface WriterImage {
  readonly storage: Storage;
  backing(): Layer | null;
  /** Another one when the image has read its tables anew. */
  context(): PlaceContext;
  /** Of the virtual disk, in bytes. */
  size(): number;
  /** The guest's view, for a caller that holds the range already. */
  readHeld(offset: number, target: Uint8Array): Promise<void>;
}

/** Zeros that have to be written as data go in pieces of this size. */
const ZEROS = MIB;

/**
 * Lets go of what was taken, at once also of its room: on a full disk the tables of what was
 * written before need it. Within one turn of the queue: after a checkpoint, the clusters may be
 * somebody else's.
 */
export async function giveUp(
  context: PlaceContext,
  placements: readonly Pick<Placement, 'host' | 'clusters' | 'taken'>[],
): Promise<void> {
  abandon(context, placements);
  for (const { host, clusters, taken } of placements) {
    if (taken) await context.data.storage.discard(host, clusters * context.geometry.clusterSize);
  }
}

export class Writer {
  readonly queue = new Mutex();
  readonly ranges = new RangeLocks();
  readonly #image: WriterImage;

  constructor(image: WriterImage) {
    this.#image = image;
  }

  get #clusterSize(): number {
    return this.#image.context().geometry.clusterSize;
  }

  /**
   * Writes a range through `move`. `diskEnd`: the end of the disk, later than now while it grows.
   * `reserved`: whole clusters get their places; where they have subclusters, none of these holds
   * anything yet. `zero`: they get their places, and read as zeros whatever is there.
   */
  async write(
    offset: number,
    length: number,
    move: Mover,
    diskEnd: number,
    as: WriteAs = 'data',
  ): Promise<void> {
    if (length === 0) return;
    const start = alignDown(offset, this.#clusterSize);
    const end = alignUp(offset + length, this.#clusterSize);
    await this.ranges.exclusive(start, end, async () => {
      const context = this.#image.context();
      const places = await this.queue.run(() => place(context, offset, length));
      const placements =
        as === 'reserved' ? places.map((each) => ({ ...each, to: each.from })) : places;
      try {
        for (const placement of placements) {
          await this.#fill(placement, offset, offset + length, move, diskEnd);
        }
      } catch (error) {
        await this.queue.run(() => giveUp(context, placements));
        throw error;
      }
      if (placements.every(({ state }) => state === 'in-place')) return;
      await this.queue.run(async () => {
        await publish(context, placements, as === 'zero');
        await this.checkpointIfFull();
      });
    });
  }

  /** Moves the bytes that lie in one placement, and completes the ragged ends of new clusters. */
  async #fill(
    placement: Placement,
    from: number,
    to: number,
    move: Mover,
    diskEnd: number,
  ): Promise<void> {
    const { guest, host, state } = placement;
    const start = Math.max(from, guest);
    const end = Math.min(to, guest + placement.clusters * this.#clusterSize);
    if (state === 'new') await this.#carryOver(placement, placement.from, start, diskEnd);
    await move(host + (start - guest), start - from, end - start);
    if (state === 'new') await this.#carryOver(placement, end, placement.to, diskEnd);
  }

  /** Copy on write: what the guest sees in `from .. to` now goes into the new clusters. */
  async #carryOver(
    placement: Placement,
    from: number,
    end: number,
    diskEnd: number,
  ): Promise<void> {
    const { data } = this.#image.context();
    // A data file has no more than the disk, whose last cluster may be one in part.
    const to = data.external ? Math.min(end, Math.max(this.#image.size(), diskEnd)) : end;
    if (from >= to) return;
    const size = this.#image.size();
    const onDisk = Math.max(0, Math.min(to, size, diskEnd) - from);
    const { storage } = this.#image;
    if (onDisk > 0) storage.event?.('cow_read');
    const isZero = await this.#isZeroByMap(from, from + onDisk);
    // Zeros that were encrypted are none.
    const needsNone = placement.zeroed && !data.opaque;
    if (isZero && needsNone) return;
    const bytes = new Uint8Array(to - from);
    if (!isZero) {
      await this.#image.readHeld(from, bytes.subarray(0, onDisk));
      if (needsNone && onlyZeros(bytes)) return;
    }
    const host = placement.host + (from - placement.guest);
    storage.event?.('cow_write');
    await data.write(host, from, bytes);
  }

  /** The range, of a cluster at most, reads as zeros, and that is known without reading it. */
  async #isZeroByMap(start: number, end: number): Promise<boolean> {
    let at = start;
    for (const run of at < end ? await mapRuns(this.#image.context(), at, end - at) : []) {
      if (!this.#isZero(run)) return false;
      at = run.offset + run.length;
    }
    return at >= end;
  }

  #isZero({ kind, offset }: MapRun): boolean {
    const backed = offset < (this.#image.backing()?.size ?? 0);
    return kind === 'zero' || (kind === 'unallocated' && !backed);
  }

  /** Makes a range read as zeros, by the map where whole subclusters allow it. */
  async zero(offset: number, length: number, diskEnd: number): Promise<void> {
    const { clusterSize, subclusterSize } = this.#image.context().geometry;
    const end = offset + length;
    const bodyStart = alignUp(offset, subclusterSize);
    const bodyEnd = end === diskEnd ? alignUp(end, clusterSize) : alignDown(end, subclusterSize);
    if (bodyStart >= bodyEnd) {
      await this.#writeZeros(offset, end, diskEnd);
      return;
    }
    await this.#writeZeros(offset, bodyStart, diskEnd);
    if (this.#image.context().version >= 3) await this.#zeroByMap(bodyStart, bodyEnd, diskEnd);
    else {
      // Version 2 has no zero flag: without an entry, the part past the backing file reads zeros.
      const backed = Math.min(this.#image.backing()?.size ?? 0, diskEnd);
      const split = Math.min(Math.max(alignUp(backed, clusterSize), bodyStart), bodyEnd);
      await this.#writeZeros(bodyStart, Math.min(split, diskEnd), diskEnd);
      if (split < bodyEnd) await this.#unmap(split, bodyEnd, 'unallocated');
    }
    await this.#writeZeros(Math.min(bodyEnd, end), end, diskEnd);
  }

  /** Whole subclusters: first and last cluster may be touched in part. */
  async #zeroByMap(start: number, end: number, diskEnd: number): Promise<void> {
    const { data } = this.#image.context();
    if (data.raw) {
      // Who reads the data file alone must see the zeros, too.
      const length = Math.min(end, diskEnd) - start;
      await this.ranges.exclusive(start, end, () => data.storage.zero(start, length, 'data'));
    }
    const wholeStart = alignUp(start, this.#clusterSize);
    const wholeEnd = alignDown(end, this.#clusterSize);
    await this.#zeroPart(start, Math.min(wholeStart, end), diskEnd);
    if (wholeStart < wholeEnd) await this.#unmap(wholeStart, wholeEnd, 'zero');
    await this.#zeroPart(Math.max(wholeStart, wholeEnd), end, diskEnd);
  }

  async #zeroPart(start: number, end: number, diskEnd: number): Promise<void> {
    if (start >= end) return;
    const isDone = await this.ranges.exclusive(start, end, () =>
      this.queue.run(async () => {
        const done = await zeroPart(this.#image.context(), start, end - start);
        await this.checkpointIfFull();
        return done;
      }),
    );
    if (!isDone) await this.#writeZeros(start, Math.min(end, diskEnd), diskEnd);
  }

  async #unmap(start: number, end: number, becomes: 'zero' | 'unallocated'): Promise<void> {
    const { geometry } = this.#image.context();
    // In pieces, so that dirty tables stay bounded on terabytes of zeros.
    for (let at = start; at < end; ) {
      const stop = Math.min(end, alignDown(at, geometry.l2Coverage) + geometry.l2Coverage);
      await this.ranges.exclusive(at, stop, () =>
        this.queue.run(async () => {
          const clusters = divideUp(stop - at, geometry.clusterSize);
          await unmap(this.#image.context(), at, clusters, becomes);
          await this.checkpointIfFull();
        }),
      );
      at = stop;
    }
  }

  /** Writes zeros as data, except where the range reads as zeros by its map already. */
  async #writeZeros(start: number, end: number, diskEnd: number): Promise<void> {
    for (let at = start; at < end; ) {
      const runs = await mapRuns(this.#image.context(), at, end - at);
      for (const run of runs) {
        if (!this.#isZero(run)) await this.#writeZeroData(run.offset, run.length, diskEnd);
        at += run.length;
      }
    }
  }

  async #writeZeroData(offset: number, length: number, diskEnd: number): Promise<void> {
    const zeros = new Uint8Array(Math.min(ZEROS, length));
    for (let done = 0; done < length; done += ZEROS) {
      const move: Mover = (host, from, count) => {
        this.#image.storage.event?.('write_aio');
        const { data } = this.#image.context();
        return data.write(host, offset + done + from, zeros.subarray(0, count));
      };
      await this.write(offset + done, Math.min(ZEROS, length - done), move, diskEnd);
    }
  }

  /**
   * The disk gets `size`; the new area reads as zeros, even where a backing file is longer. `fill` is
   * called before it is there.
   */
  async grow(size: number, fill: () => Promise<void>): Promise<void> {
    const old = this.#image.size();
    await this.queue.run(() => growTables(this.#image.context(), size));
    await this.#zeroNewArea(old, size);
    await this.#growDataFile(old, size);
    await fill();
    // The new area reads as zeros, durably, before the header says that it exists.
    await this.queue.run(async () => {
      const { tables } = this.#image.context();
      await tables.checkpoint();
      tables.patchMap({ size });
      await tables.checkpoint();
    });
  }

  /** It has what the disk has; behind the disk it may have held anything. */
  async #growDataFile(old: number, size: number): Promise<void> {
    const { external, raw, storage } = this.#image.context().data;
    if (!external) return;
    const stale = Math.min(size, storage.size) - old;
    if (raw && stale > 0) await storage.zero(old, stale, 'data');
    if (storage.resizable && storage.size < size) await storage.resize(size);
  }

  async #zeroNewArea(old: number, size: number): Promise<void> {
    for (let at = old; at < size; ) {
      for (const run of await mapRuns(this.#image.context(), at, size - at)) {
        const end = run.offset + run.length;
        const backedEnd = Math.min(end, this.#image.backing()?.size ?? 0);
        if (run.kind === 'data' || run.kind === 'compressed') {
          await this.zero(run.offset, run.length, size);
        } else if (run.kind === 'unallocated' && backedEnd > run.offset) {
          await this.zero(run.offset, backedEnd - run.offset, size);
        }
        at = end;
      }
    }
  }

  /** Called by the holder of the queue. */
  async checkpointIfFull(): Promise<void> {
    const { tables } = this.#image.context();
    if (tables.full) await tables.checkpoint();
  }
}

/** `bytes` begin where their buffer does. */
function onlyZeros(bytes: Uint8Array): boolean {
  const words = Math.floor(bytes.length / 4);
  const view = new Int32Array(bytes.buffer, bytes.byteOffset, words);
  for (let i = 0; i < words; i++) if (view[i] !== 0) return false;
  for (let i = words * 4; i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
}
