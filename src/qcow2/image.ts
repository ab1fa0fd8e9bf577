// Qcow2Image: one qcow2 file as a layer. Brings together header, tables, allocator and map; knows
// no chain beyond the layer below it, and no job.

import { assert, ImageError } from '../errors.ts';
import type { Codecs } from '../io/host.ts';
import type { PlacedRanges } from '../io/placed-ranges.ts';
import type { Storage } from '../io/storage.ts';
import {
  checkRange,
  type GrowOptions,
  type HostRange,
  type Layer,
  type MoveWatch,
} from '../layer.ts';
import { type BackingPointer, removeBacking, rewriteBacking } from './backing.ts';
import { BitmapGrowth, type GrowingBitmap } from './bitmap-growth.ts';
import { Bitmaps } from './bitmaps.ts';
import { CompressedWriter, compressorFor } from './compressed-writer.ts';
import { corruptionBehind } from './corruption.ts';
import { emptyImage, fastEmptyScratch } from './empty.ts';
import { GrowthCounter } from './growth.ts';
import { GuardedStorage } from './guarded-storage.ts';
import { geometryOfHeader, type Header } from './header.ts';
import type { OpenImageOptions, WriteIntent } from './image-options.ts';
import { tablesOptions } from './image-state.ts';
import { countMovable, moveRanges } from './move-ranges.ts';
import type { RangeLocks } from './mutex.ts';
import { type OpenedData, openData } from './open-data.ts';
import { PairedStorage } from './paired-storage.ts';
import type { PlaceContext } from './place.ts';
import { type Preallocating, preallocateNew } from './preallocate.ts';
import { prepareForWriting, refusalToWrite, whyFixedSize } from './prepare.ts';
import { ReadableImage } from './readable-image.ts';
import { reclaim, reclaimable, wholeClusters } from './reclaim.ts';
import { shrinkImage } from './shrink.ts';
import { checkSnapshots } from './snapshots.ts';
import { Tables } from './tables.ts';
import { verifyRefcounts } from './verify.ts';
import { type Mover, type WriteAs, Writer } from './writer.ts';

export class Qcow2Image extends ReadableImage implements Layer {
  protected readonly ranges: RangeLocks;
  readonly #writer: Writer;
  readonly #compressed: CompressedWriter;
  readonly #codecs: Codecs | undefined;
  readonly #bitmaps: Bitmaps;
  #ready: Promise<void> | undefined;

  private constructor(
    storage: GuardedStorage,
    header: Header,
    opened: OpenedData,
    tables: Tables,
    options: OpenImageOptions,
  ) {
    super(storage, header, opened, tables, options);
    this.#codecs = options.codecs;
    const about = { header: () => this.headerNow, size: () => this.sizeNow };
    const below = { backing: () => this.backing, context: () => this.context };
    const parts = { storage, ...about, ...below };
    this.#writer = new Writer({
      ...parts,
      readHeld: (offset, target) => this.reader.read(offset, target),
    });
    this.ranges = this.#writer.ranges;
    this.#compressed = new CompressedWriter({
      storage,
      writer: this.#writer,
      context: parts.context,
      writePlain: (offset, source) => this.write(offset, source),
    });
    this.#bitmaps = new Bitmaps({
      ...parts,
      headerChanged: async () => {
        await this.readHeaderAgain();
      },
    });
  }

  /**
   * Opens an image. Throws `format`, `corrupt` or `unsupported`, the message without the file name.
   * Features that can only be described (see `unsupported`) do not stop it.
   */
  static async open(storage: Storage, options: OpenImageOptions = {}): Promise<Qcow2Image> {
    const { checking = false } = options;
    const header = await Qcow2Image.readHeader(storage, checking);
    const geometry = geometryOfHeader(header);
    const file = GuardedStorage.over(storage);
    const opened = await openData(file, header, options);
    const { data } = opened;
    const isPaired = data.storage !== file;
    const own = isPaired ? GuardedStorage.over(new PairedStorage(storage, data.storage)) : file;
    try {
      const tables = await Tables.load(own, geometry, header, tablesOptions(options));
      // A broken table is found now, and not when it is needed. A check tells of it by itself.
      if (checking === false) await checkSnapshots(storage, header);
      const image = new Qcow2Image(own, header, opened, tables, options);
      // A repair can do without them.
      if (checking !== 'repair') await image.#bitmaps.load();
      return image;
    } catch (error) {
      if (isPaired) await data.storage.close();
      throw error;
    }
  }

  /** To look at; they change by way of `changeBitmaps`. */
  get bitmaps(): Pick<Bitmaps, 'list' | 'find' | 'stretchesOf'> {
    return this.#bitmaps;
  }

  async #change(work: () => Promise<void>, what?: WriteIntent): Promise<void> {
    await this.prepareToWrite(what);
    await this.#marking(work);
  }

  /** The same for the guest's data: bitmaps that record take note first. */
  async #changeData(offset: number, length: number, work: () => Promise<void>): Promise<void> {
    await this.#change(async () => {
      await this.#bitmaps.noteWrites(this.#writer.queue, [{ offset, length }]);
      await work();
    });
  }

  /** Structures that contradict each other, once met, are noted in the header. */
  async #marking(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const corruption = corruptionBehind(error);
      // Of the layer below, perhaps: that one is not written to.
      if (corruption?.storage === this.storage) {
        await this.#writer.queue.run(() => this.tables.markCorrupt(corruption));
      }
      throw error;
    }
  }

  async write(offset: number, source: Uint8Array): Promise<void> {
    await this.writeThrough(offset, source.length, (host, from, length) => {
      this.storage.event?.('write_aio');
      return this.data.write(host, offset + from, source.subarray(from, from + length));
    });
  }

  async writeFrom(offset: number, source: HostRange, length: number): Promise<void> {
    await this.writeThrough(offset, length, (host, from, count) =>
      this.data.copyFrom(source, from, host, offset + from, count),
    );
  }

  async moveRanges(ranges: PlacedRanges, watch: MoveWatch = {}): Promise<number> {
    for (const { offset, length } of ranges) checkRange(this, offset, length);
    const together = ranges.slice(0, countMovable(this.context, ranges));
    if (together.length === 0) return 0;
    await this.#change(async () => {
      await this.#bitmaps.noteWrites(this.#writer.queue, together);
      await moveRanges(this.#writer, this.context, together, watch);
    });
    return together.length;
  }

  /** Writes a range whose bytes `move` brings to their places in the file. */
  async writeThrough(offset: number, length: number, move: Mover): Promise<void> {
    checkRange(this, offset, length);
    const work = () => this.#writer.write(offset, length, move, this.sizeNow);
    await this.#changeData(offset, length, work);
  }

  /**
   * Takes places for clusters and maps them; `move` gets each. They hold what `move` leaves there,
   * but where they have subclusters, nothing yet. `diskEnd`: of the disk, later than now while it
   * grows.
   */
  async reserve(
    offset: number,
    length: number,
    move: Mover,
    as: WriteAs = 'reserved',
    diskEnd = this.sizeNow,
  ): Promise<void> {
    checkRange({ filename: this.filename, size: diskEnd }, offset, length);
    await this.prepareToWrite();
    await this.#writer.write(offset, length, move, diskEnd, as);
  }

  /** Writes a range, its whole clusters compressed where that makes them smaller. */
  async writeCompressed(offset: number, source: Uint8Array): Promise<void> {
    checkRange(this, offset, source.length);
    const compress = compressorFor(this, this.#codecs);
    if (compress instanceof ImageError) throw compress;
    const work = () => this.#compressed.write(offset, source, compress, this.sizeNow);
    await this.#changeData(offset, source.length, work);
  }

  /** Why clusters can't be stored compressed; undefined if they can. */
  get refusalToCompress(): ImageError | undefined {
    const compress = compressorFor(this, this.#codecs);
    return compress instanceof ImageError ? compress : undefined;
  }

  async zero(offset: number, length: number): Promise<void> {
    checkRange(this, offset, length);
    await this.#changeData(offset, length, () => this.#writer.zero(offset, length, this.sizeNow));
  }

  async grow(size: number, options: GrowOptions & Preallocating = {}): Promise<void> {
    assert(size >= this.sizeNow, 'grow to a smaller size');
    if (size === this.sizeNow) return;
    await this.#checkSize(size, options);
    await this.#change(async () => {
      await this.#writer.queue.run(() => this.#bitmaps.beginToGrow());
      await this.#writer.grow(size, () =>
        preallocateNew(this, size, options.preallocation ?? 'off'),
      );
    });
    this.sizeNow = size;
  }

  /**
   * Cuts the disk to `size`, its present size perhaps: what lies past it is gone, also what growing
   * to a larger size left there. Durable when it resolves.
   */
  async shrink(size: number): Promise<void> {
    assert(size <= this.sizeNow, 'shrink to a larger size');
    await this.#checkSize(size);
    await this.prepareToWrite();
    await this.storeBitmaps();
    await this.replaceState({ dataUnchanged: false }, async (context, reload) => {
      await this.#bitmaps.beginToGrow();
      await shrinkImage(this.storage, context, size, reload);
      const { external, storage } = this.data;
      if (external && storage.resizable && storage.size > size) await storage.resize(size);
    });
    await this.storeBitmaps();
  }

  async #checkSize(size: number, options?: GrowOptions): Promise<void> {
    const why = await this.whyFixedSize(size, options);
    if (why === null) return;
    throw new ImageError('unsupported', `${this.filename} can't be resized: ${why}`);
  }

  /** Why the disk can't get that size; null if it can. */
  async whyFixedSize(size: number, options: GrowOptions = {}): Promise<string | null> {
    return this.#bitmaps.whyFixedSize(size, options) ?? (await whyFixedSize(this));
  }

  /**
   * Makes the active state unallocated everywhere and durable; name, size, backing file and
   * snapshots stay.
   */
  async empty(): Promise<void> {
    await this.replaceState({ dataUnchanged: true }, async (context, reload) => {
      await emptyImage(this.storage, this.header, context);
      await reload();
      // Nothing points there any more, durably.
      const { external, storage } = this.data;
      if (external) await storage.discard(0, storage.size);
    });
  }

  /**
   * Lets go of the whole clusters of a range that reads the same through the layer below; durable
   * when it resolves, and their room is given back. Takes no space. False where nothing changed.
   */
  async reclaim(offset: number, length: number): Promise<boolean> {
    checkRange(this, offset, length);
    const part = wholeClusters(this, offset, length);
    let changed = false;
    const work = async () => {
      changed = await reclaim(this.context, this.#writer, part);
    };
    await this.#change(work, { dataUnchanged: true });
    return changed;
  }

  /** Bytes that `reclaim` gives back to the file system, at least. */
  reclaimable(offset: number, length: number): Promise<number> {
    return reclaimable(this.context, wholeClusters(this, offset, length));
  }

  /**
   * While nobody else reads or writes, `work` switches to other tables; it has to call `reload` once
   * it did.
   */
  async replaceState(
    what: WriteIntent,
    work: (context: PlaceContext, reload: () => Promise<PlaceContext>) => Promise<void>,
  ): Promise<void> {
    const { ranges, queue } = this.#writer;
    await this.#change(
      () =>
        ranges.exclusive(0, Number.POSITIVE_INFINITY, () =>
          queue.run(() => work(this.context, () => this.reload())),
        ),
      what,
    );
  }

  /**
   * Makes the header name another backing file, or none; durable when it resolves. Requests wait
   * meanwhile, and go on over `below`. What the guest sees must be the same over either.
   */
  async setBackingFile(
    backing: BackingPointer | null,
    below: Layer | null = this.backing,
  ): Promise<void> {
    await this.replaceState({ dataUnchanged: true }, async ({ tables }, reload) => {
      await tables.checkpoint();
      if (backing === null) await removeBacking(this.storage);
      else await rewriteBacking(this.storage, backing);
      await reload();
      this.backing = below;
    });
  }

  /** Changes the list of bitmaps or what they hold; durable when it resolves. */
  async changeBitmaps(work: (bitmaps: Bitmaps) => Promise<void>): Promise<void> {
    await this.prepareToWrite({ dataUnchanged: true });
    await this.#writer.queue.run(() => this.#bitmaps.change(work));
  }

  /** Bitmaps that record what is written are right in the file again, until the next write. */
  async storeBitmaps(): Promise<void> {
    await this.#writer.queue.run(() => this.#bitmaps.store());
  }

  /** Counts how far a series of writes to a disk of that size would make the file grow. */
  growthCounter(size = this.sizeNow, bitmaps: readonly GrowingBitmap[] = []): GrowthCounter {
    const grown = size !== this.sizeNow;
    const growth = new BitmapGrowth(bitmaps, size, this.clusterSize, grown);
    return new GrowthCounter(this.context, growth);
  }

  /** Throws `corrupt` where refcounts call free what the tables use; a dirty image is rebuilt anyway. */
  async verify(): Promise<void> {
    if (!this.dirty) await verifyRefcounts(this, this.context);
  }

  /** Throws `corrupt` where emptying it could free what it still needs. */
  async verifyToEmpty(): Promise<void> {
    await this.tables.loadRefcountTable();
    // The fast way makes all tables anew, whatever the old ones say.
    if (fastEmptyScratch(this.header, this.context) === null) await this.verify();
  }

  async flush(): Promise<void> {
    if (!this.writable) return;
    this.storage.event?.('flush_to_os');
    await this.#marking(() => this.#writer.queue.run(() => this.tables.checkpoint()));
  }

  /** Flushes (unless nothing was written) and closes the storage. May be called twice. */
  async close(): Promise<void> {
    try {
      if (this.#ready !== undefined) {
        await this.flush();
        await this.storeBitmaps();
      }
    } finally {
      this.#ready = undefined;
      await this.storage.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Why the image can't be written, found without writing; undefined if it can. */
  refusalToWrite(what: WriteIntent): ImageError | undefined {
    // Also where zeros are read instead: a write would copy them.
    const backing = this.reader.lacksBacking ? this.reader.backingNotOpen() : undefined;
    return refusalToWrite(this, what, backing);
  }

  /**
   * Called before each change: refuses what can't be written. The first time it also rebuilds the
   * refcounts of a dirty image and clears autoclear bits that we don't know.
   */
  async prepareToWrite(what: WriteIntent = { dataUnchanged: false }): Promise<void> {
    const refusal = this.refusalToWrite(what);
    if (refusal !== undefined) throw refusal;
    this.tables.checkUsable();
    this.#ready ??= this.#writer.queue
      .run(() => prepareForWriting(this, this.context))
      .catch((error: unknown) => {
        this.#ready = undefined;
        throw error;
      });
    await this.#ready;
  }
}
