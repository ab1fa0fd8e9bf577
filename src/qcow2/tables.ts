// The image's metadata in memory, and the order in which it becomes durable.
//
// The ordering law. Taking a cluster: its refcount and its content are durable before anything
// reachable points to it. Freeing a cluster: what pointed to it is durably gone before its
// refcount drops, and nobody reuses it before that. A checkpoint writes in steps, each ended by a
// flush, a step without writes left out:
//   (a) what nothing points to yet, and what only adds safety: data in new clusters, new L2 tables, a
//       new L1 or refcount table, refcount blocks;
//   (b) pointers to new refcount structures: refcount table entries or the header's pointer;
//   (c) pointers of the guest's map: L2 entries, L1 entries, the header's L1 pointer and size;
//   (d) lowered refcounts, then holes.
// Refcounts only ever rise in memory between two checkpoints: what is freed waits in a list for
// (d), so the allocator can't hand it out before. A crash at any point leaks at most. What changes
// something is called by the holder of the image's queue.

import { assert, ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { divideUp } from '../units.ts';
import { CorruptionError, hex } from './corruption.ts';
import { Directory, pastEnd } from './directory.ts';
import { writeU64 } from './fields.ts';
import { type Geometry, refcountTableIndexOf } from './geometry.ts';
import { GuardedStorage } from './guarded-storage.ts';
import type { Header } from './header.ts';
import { type HeaderPatch, HeaderSector } from './header-sector.ts';
import type { TablesOptions } from './image-options.ts';
import { clusterOffset, encodeEntry } from './l2-entry.ts';
import { checkRoomForL2 } from './l2-room.ts';
import { lowerRefcounts, punchHoles } from './lower-refcounts.ts';
import type { Structures } from './overlap.ts';
import { findStructures } from './overlap-survey.ts';
import { getRefcount, setRefcount } from './refcount.ts';
import { Runs } from './runs.ts';
import { COPIED_HIGH } from './spec.ts';
import { type Table, TableCache } from './table-cache.ts';

export class Tables {
  readonly #storage: Storage;
  readonly #geometry: Geometry;
  readonly #cache: TableCache;
  readonly #header: HeaderSector;
  readonly #l1: Directory;
  readonly #refcountTable: Directory;
  /** Header fields of the guest's map that wait for step (c). */
  #mapPatch: HeaderPatch = {};
  /** Clusters freed since the last checkpoint. */
  #freed = new Runs();
  /** First byte after the highest cluster taken, so that the file can be made to cover it. */
  #takenEnd = 0;
  #failure: unknown;
  /** Why the L1 table could not be read. */
  #l1Broken: ImageError | undefined;
  readonly #guarded: TablesOptions['guarded'];
  readonly #loaded: Header;
  #structures: Structures | undefined;
  /** Lowest cluster index that may be free: a hint for the allocator. */
  freeHint = 0;
  /** Goes up whenever clusters may have become free. */
  freeings = 0;

  private constructor(
    storage: Storage,
    geometry: Geometry,
    header: Header,
    headerSector: HeaderSector,
    { cacheBytes, guarded }: TablesOptions,
  ) {
    this.#storage = storage;
    this.#geometry = geometry;
    this.#header = headerSector;
    this.#guarded = guarded;
    this.#loaded = header;
    this.#cache = new TableCache(storage, geometry.clusterSize, cacheBytes);
    this.#l1 = new Directory('l1', header.l1TableOffset, header.l1Size * 8);
    this.#refcountTable = new Directory(
      'refcount-table',
      header.refcountTableOffset,
      header.refcountTableClusters * geometry.clusterSize,
    );
  }

  static async load(
    storage: Storage,
    geometry: Geometry,
    header: Header,
    options: TablesOptions,
  ): Promise<Tables> {
    const sector = await HeaderSector.read(storage);
    const tables = new Tables(storage, geometry, header, sector, options);
    try {
      await tables.#l1.load(storage, 'the L1 table');
      checkRoomForL2(storage, geometry, tables.#l1);
    } catch (error) {
      if (!(error instanceof ImageError) || error.code !== 'corrupt') throw error;
      // An image that can't be read can still be described.
      tables.#l1Broken = error;
    }
    return tables;
  }

  /** The refcount table is needed for writing and checking alone, so it is read when first asked. */
  async loadRefcountTable(): Promise<void> {
    if (this.#structures !== undefined) return;
    await this.#refcountTable.load(this.#storage, 'the refcount table');
    const [l1, refcountTable] = [this.#l1, this.#refcountTable];
    const parts = { header: this.#loaded, l1, refcountTable, guarded: this.#guarded };
    this.#structures = await findStructures(this.#storage, this.#geometry, parts);
    if (this.#storage instanceof GuardedStorage) this.#storage.watch(this.#structures);
  }

  /** What makes no sense in this image. */
  corrupt(words: string): CorruptionError {
    return new CorruptionError(this.#storage, words);
  }

  /** There once the refcount table is loaded. */
  get structures(): Structures {
    assert(this.#structures, 'refcount table not loaded');
    return this.#structures;
  }

  /** Throws `corrupt` for what is pointed to behind the end of the file: it is not there. */
  checkInFile(what: string, offset: number): void {
    if (offset >= this.#storage.size) throw pastEnd(this.#storage, what, offset);
  }

  get l1Entries(): number {
    return this.#l1.entries;
  }

  get l1Offset(): number {
    return this.#l1.offset;
  }

  /** Host offset of an L2 table (0: none) and whether we may write to it in place. */
  l1Entry(index: number): { readonly offset: number; readonly copied: boolean } {
    if (this.#l1Broken !== undefined) throw this.#l1Broken;
    const offset = this.l2Offset(index);
    if (offset % this.#geometry.clusterSize !== 0) {
      throw this.corrupt(`L2 table offset ${hex(offset)} unaligned (L1 index: ${hex(index)})`);
    }
    return { offset, copied: (this.#l1.view.getUint32(index * 8) & COPIED_HIGH) !== 0 };
  }

  /** As the entry has it, aligned or not. */
  l2Offset(index: number): number {
    const { view } = this.#l1;
    return clusterOffset(view.getUint32(index * 8), view.getUint32(index * 8 + 4));
  }

  /** The first L1 index from `index` on, below `end`, that has an L2 table; `end` if none. */
  nextL2(index: number, end: number): number {
    if (this.#l1Broken !== undefined) throw this.#l1Broken;
    const { halves } = this.#l1;
    let position = index;
    while (position < end && !halves[position * 2] && !halves[position * 2 + 1]) position++;
    return position;
  }

  setL1Entry(index: number, l2Offset: number): void {
    encodeEntry(this.#l1.view, index * 8, l2Offset, { copied: l2Offset !== 0, zero: false });
    this.#l1.touched(index);
  }

  l2Table(offset: number): Promise<Table> | Table {
    return this.#cache.load(offset, 'l2');
  }

  /** Looks at L2 tables once, as a whole. */
  get l2Scans(): Pick<TableCache, 'ahead' | 'scan'> {
    return this.#cache;
  }

  /** An L2 table in a cluster just taken; it becomes reachable in step (c) at the earliest. */
  newL2Table(offset: number, content?: Uint8Array): Table {
    this.structures.add('active-l2', offset);
    return this.#cache.create(offset, 'l2', content);
  }

  /** The caller changed the entry of an L2 table at `position`. */
  touched(table: Table, position: number): void {
    this.#cache.touch(table, position, this.#geometry.l2EntryBytes);
  }

  get refcountTableEntries(): number {
    return this.#refcountTable.entries;
  }

  get refcountTablePlace(): { readonly offset: number; readonly length: number } {
    return { offset: this.#refcountTable.offset, length: this.#refcountTable.length };
  }

  /** Offset of the refcount block with that index in the refcount table; 0: none. */
  refcountBlockOffset(index: number): number {
    assert(this.#structures, 'refcount table not loaded');
    if (index >= this.refcountTableEntries) return 0;
    const { view } = this.#refcountTable;
    const offset = clusterOffset(view.getUint32(index * 8), view.getUint32(index * 8 + 4));
    if (offset % this.#geometry.clusterSize !== 0) {
      const words = `Refblock offset ${hex(offset)} unaligned (reftable index: ${hex(index)})`;
      throw this.corrupt(words);
    }
    return offset;
  }

  /** One more than the highest index that has a refcount block. */
  get refcountBlocksEnd(): number {
    let end = this.refcountTableEntries;
    while (end > 0 && this.refcountBlockOffset(end - 1) === 0) end--;
    return end;
  }

  async refcountBlock(index: number): Promise<Table | null> {
    const offset = this.refcountBlockOffset(index);
    return offset === 0 ? null : this.#cache.load(offset, 'refcount-block');
  }

  /** A refcount block of zeros in a cluster whose own refcount the caller sets. */
  newRefcountBlock(index: number, offset: number): Table {
    assert(this.refcountBlockOffset(index) === 0, 'refcount block exists');
    writeU64(this.#refcountTable.view, index * 8, offset);
    this.#refcountTable.touched(index);
    this.took(offset, 1);
    this.structures.add('refcount-block', offset);
    return this.#cache.create(offset, 'refcount-block');
  }

  /** From step (b) on nothing counts there; the caller sees to the refcount of its cluster. */
  dropRefcountBlock(index: number): void {
    const offset = this.refcountBlockOffset(index);
    this.#cache.forget(offset);
    this.structures.drop('refcount-block', offset);
    writeU64(this.#refcountTable.view, index * 8, 0);
    this.#refcountTable.touched(index);
  }

  async refcount(clusterIndex: number): Promise<number> {
    const block = await this.refcountBlock(refcountTableIndexOf(clusterIndex, this.#geometry));
    if (block === null) return 0;
    const within = clusterIndex % this.#geometry.refcountBlockEntries;
    return getRefcount(block.bytes, within, this.#geometry.refcountOrder);
  }

  setRefcountIn(block: Table, within: number, count: number): void {
    const { refcountOrder, refcountBits } = this.#geometry;
    setRefcount(block.bytes, within, refcountOrder, count);
    this.#cache.touch(
      block,
      Math.floor((within * refcountBits) / 8),
      Math.max(1, refcountBits / 8),
    );
  }

  /** Notes that clusters from `offset` on are in use, so that the file gets to cover them. */
  took(offset: number, count: number): void {
    this.#takenEnd = Math.max(this.#takenEnd, offset + count * this.#geometry.clusterSize);
  }

  /** Drops one reference of each cluster at the next checkpoint, once nothing points there. */
  free(clusterIndex: number, count: number): void {
    this.#freed.add(clusterIndex, count);
  }

  /** Drops the map's reference to an L2 table; a snapshot may keep its own. */
  dropL2Table(offset: number): void {
    this.#cache.forget(offset);
    this.structures.drop('active-l2', offset);
    this.free(offset / this.#geometry.clusterSize, 1);
  }

  /** The refcount table moves to `offset` with room for `entries`; old entries are carried over. */
  moveRefcountTable(offset: number, clusters: number): void {
    const length = clusters * this.#geometry.clusterSize;
    this.#move(this.#refcountTable, offset, length);
    this.structures.place('refcount-table', { offset, length });
  }

  /** The L1 table moves to `offset` and gets `entries`; step (c) makes the header name it. */
  moveL1(offset: number, entries: number): void {
    this.#storage.event?.('l1_grow_alloc_table');
    this.#move(this.#l1, offset, entries * 8);
    this.structures.place('active-l1', this.#l1);
    this.patchMap({ l1TableOffset: offset, l1Size: entries });
  }

  #move(directory: Directory, offset: number, length: number): void {
    const { clusterSize } = this.#geometry;
    const oldClusters = divideUp(directory.length, clusterSize);
    if (oldClusters > 0) this.free(directory.offset / clusterSize, oldClusters);
    directory.moveTo(offset, length);
    this.took(offset, divideUp(length, clusterSize));
  }

  /** Header fields that change together with the guest's map, in step (c). */
  patchMap(patch: HeaderPatch): void {
    Object.assign(this.#mapPatch, patch);
  }

  /** Header fields that are changed and durable at once, apart from any checkpoint. */
  async patchHeaderNow(patch: HeaderPatch): Promise<void> {
    await this.#header.write(patch).catch((error: unknown) => this.#fail(error));
    await this.#storage.flush().catch((error: unknown) => this.#fail(error));
  }

  /** No more metadata is written; version 3 headers say why, for those who come after us. */
  async markCorrupt(error: CorruptionError): Promise<void> {
    this.#failure = error;
    error.marked = true;
    await this.#header.noteCorruption();
  }

  /** Throws what made further changes impossible. */
  checkUsable(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Nobody knows what is durable: no more metadata is written. */
  #fail(error: unknown): never {
    this.#failure = error;
    throw error;
  }

  /** True when so much metadata is dirty that it is time for a checkpoint. */
  get full(): boolean {
    return this.#cache.dirtyBytes > this.#cache.dirtyBound || this.#freed.length > 2 ** 17;
  }

  /** Makes everything published so far durable, in the order of the law. */
  async checkpoint(): Promise<void> {
    this.checkUsable();
    // May fail and be done again, once there is room: nothing points to what it writes.
    await this.#writeNewClusters();
    try {
      // Always flushed: data written in place must be durable too.
      this.#storage.event?.('flush_to_disk');
      await this.#storage.flush();
      this.#cache.settle((table) => table.kind === 'refcount-block');
      await this.#stepRefcountPointers();
      await this.#stepGuestMap();
      await this.#stepFreed();
    } catch (error) {
      // What is on disk is right by the order of the steps.
      this.#fail(error);
    }
  }

  async #writeNewClusters(): Promise<void> {
    await this.#cache.write((table) => table.kind === 'refcount-block' || table.fresh);
    if (this.#l1.moved) await this.#l1.writeAll(this.#storage);
    if (this.#refcountTable.moved) await this.#refcountTable.writeAll(this.#storage);
    // The last cluster may be there in part (what is missing reads as zeros), not more than that.
    const missing = this.#takenEnd - this.#storage.size;
    const grows = this.#storage.resizable && missing >= this.#geometry.clusterSize;
    if (grows) await this.#storage.resize(this.#takenEnd);
  }

  async #stepRefcountPointers(): Promise<void> {
    const table = this.#refcountTable;
    if (table.moved) {
      await this.#header.write({
        refcountTableOffset: table.offset,
        refcountTableClusters: table.length / this.#geometry.clusterSize,
      });
    } else if (table.hasDirtySectors) await table.writeDirtySectors(this.#storage);
    else return;
    table.settle();
    await this.#storage.flush();
  }

  async #stepGuestMap(): Promise<void> {
    let wrote = await this.#cache.write((table) => table.kind === 'l2' && !table.fresh);
    if (!this.#l1.moved && this.#l1.hasDirtySectors) {
      await this.#l1.writeDirtySectors(this.#storage);
      wrote = true;
    }
    if (Object.keys(this.#mapPatch).length > 0) {
      await this.#header.write(this.#mapPatch);
      this.#mapPatch = {};
      wrote = true;
    }
    this.#l1.settle();
    if (wrote) await this.#storage.flush();
    this.#cache.settle((table) => table.kind === 'l2');
  }

  async #stepFreed(): Promise<void> {
    if (this.#freed.length === 0) return;
    this.#storage.event?.('cluster_free');
    const freed = this.#freed;
    this.freeings++;
    this.#freed = new Runs();
    const holes = await lowerRefcounts(this, this.#geometry, freed);
    await this.#cache.write((table) => table.kind === 'refcount-block');
    await this.#storage.flush();
    this.#cache.settle((table) => table.kind === 'refcount-block');
    await punchHoles(this.#storage, this.#geometry, holes);
  }
}
