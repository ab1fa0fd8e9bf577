// Qcow2Image: one qcow2 file as a layer. Brings together header, tables, allocator and map; knows
// no chain beyond the layer below it, and no job.

import { assert, ImageError } from '../errors.ts';
import type { Codecs } from '../io/host.ts';
import type { Storage } from '../io/storage.ts';
import type { Extent, HostRange, Layer } from '../layer.ts';
import { alignDown, alignUp, divideUp, MIB } from '../units.ts';
import { Allocator } from './allocator.ts';
import { decompressCluster } from './compression.ts';
import { emptyImage } from './empty.ts';
import { findExtension } from './extensions.ts';
import type { Geometry } from './geometry.ts';
import { countFree, GrowthCounter } from './growth.ts';
import { geometryOfHeader, type Header, headerClusterSize, parseHeader } from './header.ts';
import { type MapRun, mapRuns } from './mapping.ts';
import { Mutex, RangeLocks } from './mutex.ts';
import { abandon, type PlaceContext, type Placement, place, publish, unmap } from './place.ts';
import { rebuildRefcounts } from './repair.ts';
import { growTables } from './resize.ts';
import { readSnapshots, type Snapshot } from './snapshots.ts';
import { CRYPT_NONE, EXTENSION, INCOMPATIBLE, KNOWN_AUTOCLEAR } from './spec.ts';
import { Tables } from './tables.ts';

export interface OpenImageOptions {
  /** Needed for compressed clusters alone. */
  readonly codecs?: Codecs;
  /** Bound for tables in memory, in bytes. Default 16 MiB; at least eight tables are kept. */
  readonly cacheBytes?: number;
}

export interface WriteIntent {
  /** The guest's view stays, so that what tracks it (bitmaps) stays right. */
  readonly dataUnchanged: boolean;
  /** Takes it for granted that the storage will have been made writable. */
  readonly writable?: boolean;
}

/** Moves bytes `from .. from + length` of what is being written to `host` in the image's file. */
type Mover = (host: number, from: number, length: number) => Promise<void>;

/** Reads and writes through buffers go in pieces of at most this size. */
const BUFFER = MIB;
const DEFAULT_CACHE = 16 * MIB;

export class Qcow2Image implements Layer {
  readonly format = 'qcow2';
  readonly storage: Storage;
  readonly geometry: Geometry;
  backing: Layer | null = null;
  readonly #codecs: Codecs | undefined;
  readonly #cacheBytes: number;
  #header: Header;
  #context: PlaceContext;
  readonly #queue = new Mutex();
  readonly #ranges = new RangeLocks();
  #size: number;
  #ready: Promise<void> | undefined;

  private constructor(storage: Storage, header: Header, tables: Tables, options: OpenImageOptions) {
    this.storage = storage;
    this.#header = header;
    this.geometry = geometryOfHeader(header);
    this.#codecs = options.codecs;
    this.#cacheBytes = options.cacheBytes ?? DEFAULT_CACHE;
    this.#size = header.size;
    this.#context = this.#newContext(tables);
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
    };
  }

  /**
   * Opens an image. Throws `format`, `corrupt` or `unsupported`, the message without the file name.
   * Features that can only be described (see `unsupported`) do not stop it.
   */
  static async open(storage: Storage, options: OpenImageOptions = {}): Promise<Qcow2Image> {
    const header = await Qcow2Image.readHeader(storage);
    const geometry = geometryOfHeader(header);
    const tables = await Tables.load(
      storage,
      geometry,
      header,
      options.cacheBytes ?? DEFAULT_CACHE,
    );
    return new Qcow2Image(storage, header, tables, options);
  }

  /** Reads and checks the header alone. */
  static async readHeader(storage: Storage): Promise<Header> {
    const start = new Uint8Array(Math.min(512, storage.size));
    await storage.read(0, start);
    const cluster = new Uint8Array(Math.min(headerClusterSize(start), storage.size));
    await storage.read(0, cluster);
    return parseHeader(cluster);
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

  snapshots(): Promise<readonly Snapshot[]> {
    return readSnapshots(this.storage, this.header);
  }

  /** The feature that keeps us from reading the guest's data, in words; null if there is none. */
  get unsupportedForReading(): string | null {
    const features = this.header.incompatibleFeatures;
    if (features & INCOMPATIBLE.extendedL2) return 'extended L2 entries';
    if (features & INCOMPATIBLE.externalDataFile) return 'an external data file';
    if (this.header.cryptMethod !== CRYPT_NONE) return 'encryption';
    return null;
  }

  /** The same for writing the guest's data. */
  get unsupportedForWriting(): string | null {
    const bitmaps = findExtension(this.header.extensions, EXTENSION.bitmaps) !== undefined;
    return this.unsupportedForReading ?? (bitmaps ? 'persistent bitmaps' : null);
  }

  // Reading

  async extents(offset: number, length: number): Promise<readonly Extent[]> {
    this.#checkRange(offset, length);
    this.#checkReadable();
    const runs = await mapRuns(this.#context, offset, length);
    return runs.map((run): Extent => {
      const { kind, offset, length } = run;
      if (kind === 'unallocated' || kind === 'zero') return { kind, offset, length };
      const host = kind === 'data' ? { storage: this.storage, offset: run.host } : null;
      return { kind: 'data', offset, length, host };
    });
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    this.#checkRange(offset, target.length);
    this.#checkReadable();
    for (let done = 0; done < target.length; ) {
      const runs = await mapRuns(this.#context, offset + done, target.length - done);
      for (const run of runs) {
        await this.#readRun(run, target.subarray(done, done + run.length));
        done += run.length;
      }
    }
  }

  async #readRun(run: MapRun, target: Uint8Array): Promise<void> {
    if (run.kind === 'zero') target.fill(0);
    else if (run.kind === 'data') await this.storage.read(run.host, target);
    else if (run.kind === 'unallocated') await readBacking(this.backing, run.offset, target);
    else await this.#readCompressed(run, target);
  }

  async #readCompressed(run: MapRun, target: Uint8Array): Promise<void> {
    const cluster = await decompressCluster(
      this.#codecs,
      this.storage,
      this.header.compressionType,
      this.clusterSize,
      run,
    );
    const within = run.offset % this.clusterSize;
    target.set(cluster.subarray(within, within + run.length));
  }

  // Writing

  async write(offset: number, source: Uint8Array): Promise<void> {
    await this.#writeRange(offset, source.length, (host, from, length) =>
      this.storage.write(host, source.subarray(from, from + length), 'data'),
    );
  }

  async writeFrom(offset: number, source: HostRange, length: number): Promise<void> {
    await this.#writeRange(offset, length, async (host, from, count) => {
      let done = await this.storage.copyFrom(source.storage, source.offset + from, host, count);
      if (done === count) return;
      const buffer = new Uint8Array(Math.min(BUFFER, count - done));
      while (done < count) {
        const piece = buffer.subarray(0, Math.min(buffer.length, count - done));
        await source.storage.read(source.offset + from + done, piece);
        await this.storage.write(host + done, piece, 'data');
        done += piece.length;
      }
    });
  }

  async zero(offset: number, length: number): Promise<void> {
    this.#checkRange(offset, length);
    await this.prepareToWrite();
    await this.#zeroRange(offset, length, this.#size);
  }

  /** Zeros in a range that may lie past `size` (while growing); `diskEnd` is the new end. */
  async #zeroRange(offset: number, length: number, diskEnd: number): Promise<void> {
    const { clusterSize } = this;
    const end = offset + length;
    const bodyStart = alignUp(offset, clusterSize);
    const bodyEnd = end === diskEnd ? alignUp(end, clusterSize) : alignDown(end, clusterSize);
    if (bodyStart >= bodyEnd) {
      await this.#writeZeros(offset, end);
      return;
    }
    await this.#writeZeros(offset, bodyStart);
    if (this.header.version >= 3) await this.#unmap(bodyStart, bodyEnd, 'zero');
    else {
      // Version 2 has no zero flag: without an entry, the part past the backing file reads zeros.
      const covered = alignUp(Math.min(this.backing?.size ?? 0, diskEnd), clusterSize);
      const split = Math.min(Math.max(covered, bodyStart), bodyEnd);
      await this.#writeZeros(bodyStart, Math.min(split, diskEnd));
      if (split < bodyEnd) await this.#unmap(split, bodyEnd, 'unallocated');
    }
    await this.#writeZeros(Math.min(bodyEnd, end), end);
  }

  async #unmap(start: number, end: number, becomes: 'zero' | 'unallocated'): Promise<void> {
    const { clusterSize } = this;
    await this.#ranges.run(start, end, () =>
      this.#queue.run(async () => {
        // In pieces, so that dirty tables stay bounded on terabytes of zeros.
        for (let at = start; at < end; at += this.geometry.l2Coverage) {
          const clusters = divideUp(Math.min(end - at, this.geometry.l2Coverage), clusterSize);
          await unmap(this.#context, at, clusters, becomes);
          await this.#checkpointIfFull();
        }
      }),
    );
  }

  /** Writes zeros as data, except where the range reads as zeros by its map already. */
  async #writeZeros(start: number, end: number): Promise<void> {
    for (let at = start; at < end; ) {
      const runs = await mapRuns(this.#context, at, end - at);
      for (const run of runs) {
        const backed = this.backing !== null && run.offset < this.backing.size;
        const isZero = run.kind === 'zero' || (run.kind === 'unallocated' && !backed);
        if (!isZero) await this.#writeZeroData(run.offset, run.length);
        at += run.length;
      }
    }
  }

  async #writeZeroData(offset: number, length: number): Promise<void> {
    const zeros = new Uint8Array(Math.min(BUFFER, length));
    for (let done = 0; done < length; done += BUFFER) {
      const count = Math.min(BUFFER, length - done);
      await this.#writeRange(
        offset + done,
        count,
        (host, _from, n) => this.storage.write(host, zeros.subarray(0, n), 'data'),
        Math.max(this.#size, offset + length),
      );
    }
  }

  async #writeRange(
    offset: number,
    length: number,
    move: Mover,
    diskEnd = this.#size,
  ): Promise<void> {
    if (diskEnd === this.#size) this.#checkRange(offset, length);
    if (length === 0) return;
    await this.prepareToWrite();
    const start = alignDown(offset, this.clusterSize);
    const end = alignUp(offset + length, this.clusterSize);
    await this.#ranges.run(start, end, async () => {
      const context = this.#context;
      const placements = await this.#queue.run(() => place(context, offset, length));
      try {
        for (const placement of placements) {
          await this.#fill(placement, offset, offset + length, move);
        }
      } catch (error) {
        await this.#queue.run(async () => abandon(context, placements));
        throw error;
      }
      if (placements.every(({ state }) => state === 'in-place')) return;
      await this.#queue.run(async () => {
        await publish(context, placements);
        await this.#checkpointIfFull();
      });
    });
  }

  /** Moves the bytes that lie in one placement, and completes the ragged ends of new clusters. */
  async #fill(placement: Placement, from: number, to: number, move: Mover): Promise<void> {
    const { guest, host, state } = placement;
    const placementEnd = guest + placement.clusters * this.clusterSize;
    const start = Math.max(from, guest);
    const end = Math.min(to, placementEnd);
    if (state === 'new') await this.#carryOver(placement, guest, start);
    await move(host + (start - guest), start - from, end - start);
    if (state === 'new') await this.#carryOver(placement, end, placementEnd);
  }

  /** Copy on write: what the guest sees in `from .. to` now goes into the new clusters. */
  async #carryOver(placement: Placement, from: number, to: number): Promise<void> {
    if (from >= to) return;
    const bytes = new Uint8Array(to - from);
    const onDisk = Math.max(0, Math.min(to, this.#size) - from);
    if (onDisk > 0) await this.read(from, bytes.subarray(0, onDisk));
    if (placement.zeroed && bytes.every((byte) => byte === 0)) return;
    await this.storage.write(placement.host + (from - placement.guest), bytes, 'data');
  }

  async grow(size: number): Promise<void> {
    assert(size >= this.#size, 'grow to a smaller size');
    if (size === this.#size) return;
    await this.prepareToWrite();
    if (this.header.version < 3 && this.header.nbSnapshots > 0) {
      throw new ImageError(
        'unsupported',
        `${this.filename}: a version 2 image with internal snapshots can't be resized`,
      );
    }
    const old = this.#size;
    await this.#queue.run(() => growTables(this.#context, size));
    await this.#zeroNewArea(old, size);
    // The new area reads as zeros, durably, before the header says that it exists.
    await this.#queue.run(async () => {
      await this.tables.checkpoint();
      this.tables.patchMap({ size });
      await this.tables.checkpoint();
    });
    this.#size = size;
  }

  async #zeroNewArea(old: number, size: number): Promise<void> {
    for (let at = old; at < size; ) {
      for (const run of await mapRuns(this.#context, at, size - at)) {
        const end = run.offset + run.length;
        const backedEnd = Math.min(end, this.backing?.size ?? 0);
        if (run.kind === 'data' || run.kind === 'compressed') {
          await this.#zeroRange(run.offset, run.length, size);
        } else if (run.kind === 'unallocated' && backedEnd > run.offset) {
          await this.#zeroRange(run.offset, backedEnd - run.offset, size);
        }
        at = end;
      }
    }
  }

  /**
   * Makes the active state unallocated everywhere and durable; name, size, backing file and
   * snapshots stay.
   */
  async empty(): Promise<void> {
    await this.prepareToWrite({ dataUnchanged: true });
    await this.#queue.run(async () => {
      await emptyImage(this.storage, this.header, this.#context);
      // The tables lie elsewhere now.
      this.#header = await Qcow2Image.readHeader(this.storage);
      const tables = await Tables.load(this.storage, this.geometry, this.header, this.#cacheBytes);
      this.#context = this.#newContext(tables);
    });
  }

  /** Counts how far a series of writes would make the file grow. */
  growthCounter(): GrowthCounter {
    return new GrowthCounter(this.#context);
  }

  /** Bytes in clusters inside the file that nothing uses. Reads all refcount blocks. */
  async freeBytes(): Promise<number> {
    await this.tables.loadRefcountTable();
    return countFree(this.#context, this.storage.size);
  }

  async flush(): Promise<void> {
    if (!this.writable) return;
    await this.#queue.run(() => this.tables.checkpoint());
  }

  /** Flushes (unless nothing was written) and closes the storage. May be called twice. */
  async close(): Promise<void> {
    try {
      if (this.#ready !== undefined) await this.flush();
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
    if (!this.writable && !what.writable) {
      return new ImageError('read-only', `${this.filename} is open for reading only`);
    }
    if (this.corrupt) {
      return new ImageError('corrupt', 'qcow2: Image is corrupt; cannot be opened read/write', {
        hint: `Run 'qemu-img check -r all ${this.filename}' first.`,
      });
    }
    const feature = what.dataUnchanged ? this.unsupportedForReading : this.unsupportedForWriting;
    if (feature === null) return undefined;
    return new ImageError(
      'unsupported',
      `${this.filename} uses ${feature}: writing to it is not supported`,
    );
  }

  /**
   * Called before the first change: refuses what can't be written, rebuilds the refcounts of a
   * dirty image, clears autoclear bits that we don't know.
   */
  prepareToWrite(what: WriteIntent = { dataUnchanged: false }): Promise<void> {
    this.#ready ??= this.#prepare(what).catch((error: unknown) => {
      this.#ready = undefined;
      throw error;
    });
    return this.#ready;
  }

  async #prepare(what: WriteIntent): Promise<void> {
    const refusal = this.refusalToWrite(what);
    if (refusal !== undefined) throw refusal;
    await this.#queue.run(async () => {
      const { autoclearFeatures, incompatibleFeatures } = this.header;
      if (this.dirty) {
        await rebuildRefcounts(this, this.#context);
        await this.tables.patchHeaderNow({
          incompatibleFeatures: incompatibleFeatures & ~INCOMPATIBLE.dirty,
        });
      }
      const known = autoclearFeatures & KNOWN_AUTOCLEAR;
      if (known !== autoclearFeatures) {
        await this.tables.patchHeaderNow({ autoclearFeatures: known });
      }
    });
  }

  async #checkpointIfFull(): Promise<void> {
    if (this.tables.full) await this.tables.checkpoint();
  }

  #checkRange(offset: number, length: number): void {
    const inside = Number.isSafeInteger(offset) && offset >= 0 && offset + length <= this.#size;
    if (inside) return;
    throw new ImageError(
      'invalid',
      `${this.filename}: range ${offset}+${length} is outside of the disk (${this.#size} bytes)`,
    );
  }

  #checkReadable(): void {
    const feature = this.unsupportedForReading;
    if (feature === null) return;
    throw new ImageError('unsupported', `${this.filename} uses ${feature}, which is not supported`);
  }
}

/** Reads from the layer below; past its end, or without one, there are zeros. */
async function readBacking(
  backing: Layer | null,
  offset: number,
  target: Uint8Array,
): Promise<void> {
  const covered = Math.max(0, Math.min(target.length, (backing?.size ?? 0) - offset));
  if (backing !== null && covered > 0) await backing.read(offset, target.subarray(0, covered));
  target.fill(0, covered);
}
