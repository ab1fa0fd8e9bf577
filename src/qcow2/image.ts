// Qcow2Image: one qcow2 file as a layer. Brings together header, tables, allocator and map; knows
// no chain beyond the layer below it, and no job.

import { assert, ImageError } from '../errors.ts';
import type { Codecs } from '../io/host.ts';
import type { Storage } from '../io/storage.ts';
import { checkRange, type Extent, type HostRange, type Layer } from '../layer.ts';
import { MIB } from '../units.ts';
import { Allocator } from './allocator.ts';
import { rewriteBacking } from './backing.ts';
import { BitmapGrowth, type GrowingBitmap } from './bitmap-growth.ts';
import { Bitmaps } from './bitmaps.ts';
import { CompressedWriter, compressorFor } from './compressed-writer.ts';
import { type DataStore, openDataStore } from './data-store.ts';
import { emptyImage } from './empty.ts';
import type { Geometry } from './geometry.ts';
import { countFree, type FreeClusters, GrowthCounter } from './growth.ts';
import { geometryOfHeader, type Header, parseHeader } from './header.ts';
import { readHeaderCluster } from './header-cluster.ts';
import type { OpenImageOptions, WriteIntent } from './image-options.ts';
import { extentOf, mapRuns } from './mapping.ts';
import { PairedStorage } from './paired-storage.ts';
import type { PlaceContext } from './place.ts';
import { Reader } from './reader.ts';
import { readSnapshots, type Snapshot } from './snapshots.ts';
import { INCOMPATIBLE } from './spec.ts';
import { unsupportedForReading } from './support.ts';
import { Tables } from './tables.ts';
import { verifyRefcounts } from './verify.ts';
import { refusalToWrite, takeUp, whyFixedSize } from './write-checks.ts';
import { type Mover, Writer } from './writer.ts';

const DEFAULT_CACHE = 16 * MIB;

export class Qcow2Image implements Layer {
  readonly format = 'qcow2';
  readonly storage: Storage;
  readonly geometry: Geometry;
  readonly data: DataStore;
  backing: Layer | null = null;
  /** Told that there is nothing below, whatever the header says: reads as zeros. */
  standsAlone = false;
  readonly #cacheBytes: number;
  #header: Header;
  #context: PlaceContext;
  readonly #reader: Reader;
  readonly #writer: Writer;
  readonly #compressed: CompressedWriter;
  readonly #codecs: Codecs | undefined;
  readonly #bitmaps: Bitmaps;
  #size: number;
  #ready: Promise<void> | undefined;

  private constructor(
    storage: Storage,
    header: Header,
    data: DataStore,
    tables: Tables,
    options: OpenImageOptions,
  ) {
    this.storage = storage;
    this.#header = header;
    this.geometry = geometryOfHeader(header);
    this.data = data;
    this.#codecs = options.codecs;
    this.#cacheBytes = options.cacheBytes ?? DEFAULT_CACHE;
    this.#size = header.size;
    this.#context = this.#newContext(tables);
    const about = { header: () => this.#header, size: () => this.#size };
    const below = { backing: () => this.backing, context: () => this.#context };
    const parts = { storage, ...about, ...below };
    const reader = new Reader({
      ...parts,
      codecs: options.codecs,
      standsAlone: () => this.standsAlone,
    });
    this.#reader = reader;
    this.#writer = new Writer({
      ...parts,
      readHeld: (offset, target) => reader.read(offset, target),
    });
    this.#compressed = new CompressedWriter({
      storage,
      writer: this.#writer,
      context: parts.context,
      writePlain: (offset, source) => this.write(offset, source),
    });
    this.#bitmaps = new Bitmaps({
      ...parts,
      headerChanged: async () => {
        this.#header = await Qcow2Image.readHeader(storage);
      },
    });
  }

  #newContext(tables: Tables): PlaceContext {
    const { storage, geometry } = this;
    const allocator = new Allocator(storage, geometry, tables);
    return {
      filename: storage.filename,
      geometry,
      version: this.header.version,
      tables,
      allocator,
      data: this.data,
    };
  }

  /**
   * Opens an image. Throws `format`, `corrupt` or `unsupported`, the message without the file name.
   * Features that can only be described (see `unsupported`) do not stop it.
   */
  static async open(storage: Storage, options: OpenImageOptions = {}): Promise<Qcow2Image> {
    const { checking = false } = options;
    const header = await Qcow2Image.readHeader(storage, checking);
    const geometry = geometryOfHeader(header);
    const data = await openDataStore(storage, header, options);
    const paired = data.storage === storage ? storage : new PairedStorage(storage, data.storage);
    try {
      const cacheBytes = options.cacheBytes ?? DEFAULT_CACHE;
      const tables = await Tables.load(paired, geometry, header, cacheBytes);
      // A broken table is found now, and not when it is needed. A check tells of it by itself.
      if (!checking) await readSnapshots(storage, header);
      const image = new Qcow2Image(paired, header, data, tables, options);
      await image.#bitmaps.load();
      return image;
    } catch (error) {
      if (data.storage !== storage) await data.storage.close();
      throw error;
    }
  }

  /** Reads and checks the header alone. */
  static async readHeader(storage: Storage, checking = false): Promise<Header> {
    return parseHeader(await readHeaderCluster(storage), checking);
  }

  /** As it was when the image was opened or emptied. */
  get header(): Header {
    return this.#header;
  }

  get filename(): string {
    return this.storage.filename;
  }

  get size(): number {
    return this.#size;
  }

  get clusterSize(): number {
    return this.geometry.clusterSize;
  }

  get writable(): boolean {
    return this.storage.writable;
  }

  get tables(): Tables {
    return this.#context.tables;
  }

  get dirty(): boolean {
    return (this.header.incompatibleFeatures & INCOMPATIBLE.dirty) !== 0n;
  }

  get corrupt(): boolean {
    return (this.header.incompatibleFeatures & INCOMPATIBLE.corrupt) !== 0n;
  }

  /** To look at; they change by way of `changeBitmaps`. */
  get bitmaps(): Pick<Bitmaps, 'list' | 'find' | 'stretchesOf'> {
    return this.#bitmaps;
  }

  snapshots(): Promise<readonly Snapshot[]> {
    return readSnapshots(this.storage, this.header);
  }

  /** The feature that keeps us from reading the guest's data, in words; null if there is none. */
  get unsupportedForReading(): string | null {
    return unsupportedForReading(this.header);
  }

  /** Why the guest's data can't be read; null if it can. */
  get refusalToRead(): ImageError | null {
    const feature = this.unsupportedForReading;
    if (feature === null) return this.data.refusal ?? null;
    const message = `'${this.filename}' uses ${feature}, which is not supported`;
    return new ImageError('unsupported', message);
  }

  // Reading

  async extents(offset: number, length: number): Promise<readonly Extent[]> {
    checkRange(this, offset, length);
    this.#checkReadable();
    const runs = await mapRuns(this.#context, offset, length);
    return runs.map((run) => extentOf(run, this.data));
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    checkRange(this, offset, target.length);
    this.#checkReadable();
    // While we read, what the map points to must not be let go and given to somebody else.
    await this.#writer.ranges.shared(offset, offset + target.length, () =>
      this.#reader.read(offset, target),
    );
  }

  /** Why what it does not hold can't be read; undefined where it can. */
  missingBacking(): ImageError | undefined {
    return this.#reader.missingBacking();
  }

  // Writing

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

  /** Writes a range whose bytes `move` brings to their places in the file. */
  async writeThrough(offset: number, length: number, move: Mover): Promise<void> {
    checkRange(this, offset, length);
    await this.#prepareToChange(offset, length);
    await this.#writer.write(offset, length, move, this.#size);
  }

  /** Writes a range, its whole clusters compressed where that makes them smaller. */
  async writeCompressed(offset: number, source: Uint8Array): Promise<void> {
    checkRange(this, offset, source.length);
    const compress = compressorFor(this, this.#codecs);
    if (compress instanceof ImageError) throw compress;
    await this.#prepareToChange(offset, source.length);
    await this.#compressed.write(offset, source, compress, this.#size);
  }

  /** Why clusters can't be stored compressed; undefined if they can. */
  get refusalToCompress(): ImageError | undefined {
    const compress = compressorFor(this, this.#codecs);
    return compress instanceof ImageError ? compress : undefined;
  }

  async zero(offset: number, length: number): Promise<void> {
    checkRange(this, offset, length);
    await this.#prepareToChange(offset, length);
    await this.#writer.zero(offset, length, this.#size);
  }

  async grow(size: number): Promise<void> {
    assert(size >= this.#size, 'grow to a smaller size');
    if (size === this.#size) return;
    const why = await this.whyFixedSize(size);
    if (why !== null) {
      throw new ImageError('unsupported', `${this.filename} can't be resized: ${why}`);
    }
    await this.prepareToWrite();
    await this.#writer.queue.run(() => this.#bitmaps.beginToGrow());
    await this.#writer.grow(size);
    this.#size = size;
  }

  /** Why the disk can't grow to that size; null if it can. */
  async whyFixedSize(size: number): Promise<string | null> {
    return this.#bitmaps.whyFixedSize(size) ?? (await whyFixedSize(this));
  }

  /**
   * Makes the active state unallocated everywhere and durable; name, size, backing file and
   * snapshots stay.
   */
  async empty(): Promise<void> {
    await this.prepareToWrite({ dataUnchanged: true });
    const { ranges, queue } = this.#writer;
    await ranges.exclusive(0, Number.POSITIVE_INFINITY, () =>
      queue.run(async () => {
        await emptyImage(this.storage, this.header, this.#context);
        await this.#reload();
        // Nothing points there any more, durably.
        const { external, storage } = this.data;
        if (external) await storage.discard(0, storage.size);
      }),
    );
  }

  /**
   * Makes the header name another backing file; durable when it resolves. What the guest sees must
   * be the same over either: `backing`, the open layer, stays as it is.
   */
  async setBackingFile(name: string, format: string): Promise<void> {
    await this.prepareToWrite({ dataUnchanged: true });
    await this.#writer.queue.run(async () => {
      await this.tables.checkpoint();
      await rewriteBacking(this.storage, name, format);
      await this.#reload();
    });
  }

  /** Header and tables lie elsewhere, or say something else, than when they were read. */
  async #reload(): Promise<void> {
    this.#header = await Qcow2Image.readHeader(this.storage);
    const tables = await Tables.load(this.storage, this.geometry, this.header, this.#cacheBytes);
    this.#context = this.#newContext(tables);
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
  growthCounter(size: number, bitmaps: readonly GrowingBitmap[]): GrowthCounter {
    const grown = size !== this.#size;
    const growth = new BitmapGrowth(bitmaps, size, this.clusterSize, grown);
    return new GrowthCounter(this.#context, growth);
  }

  /** Throws `corrupt` where refcounts call free what the tables use; a dirty image is rebuilt anyway. */
  async verify(): Promise<void> {
    if (!this.dirty) await verifyRefcounts(this, this.#context);
  }

  /** Clusters that nothing uses. Reads all refcount blocks. */
  async freeClusters(): Promise<FreeClusters> {
    await this.tables.loadRefcountTable();
    return countFree(this.#context, this.storage.size);
  }

  async flush(): Promise<void> {
    if (!this.writable) return;
    this.storage.event?.('flush_to_os');
    await this.#writer.queue.run(() => this.tables.checkpoint());
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
    return refusalToWrite(this, this.#reader, what);
  }

  /**
   * Called before each change: refuses what can't be written. The first time it also rebuilds the
   * refcounts of a dirty image and clears autoclear bits that we don't know.
   */
  async prepareToWrite(what: WriteIntent = { dataUnchanged: false }): Promise<void> {
    const refusal = this.refusalToWrite(what);
    if (refusal !== undefined) throw refusal;
    const { queue } = this.#writer;
    this.#ready ??= queue
      .run(() => takeUp(this, this.#context))
      .catch((error: unknown) => {
        this.#ready = undefined;
        throw error;
      });
    await this.#ready;
  }

  /** The same before the guest's data changes: bitmaps that record take note. */
  async #prepareToChange(offset: number, length: number): Promise<void> {
    await this.prepareToWrite();
    await this.#bitmaps.noteWrite(this.#writer.queue, offset, length);
  }

  #checkReadable(): void {
    const refusal = this.refusalToRead;
    if (refusal !== null) throw refusal;
  }
}
