// Another active state, another list of snapshots: switched to by one write of the header.
//
// COPIED flags must say whether a refcount is one, and flags and refcounts lie in different places:
// no order of changes in place keeps an image without errors in between. So whatever differs is
// written anew beside the old: refcount blocks and their table, the L2 tables of the active state
// whose flags change, its L1 table, the snapshot table. Then one sector, the header's, makes all of
// it count. Before that write a power cut leaks the new clusters, after it the old ones.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { alignUp, divideUp } from '../units.ts';
import { viewOf, writeU64 } from './fields.ts';
import { clusterIndexOf, refcountTableIndexOf } from './geometry.ts';
import type { HeaderPatch } from './header-sector.ts';
import { clusterOffset, encodeEntry } from './l2-entry.ts';
import { NewClusters } from './new-clusters.ts';
import type { PlaceContext } from './place.ts';
import { getRefcount } from './refcount.ts';
import { type L1Place, type MapChange, RefcountChanges } from './refcount-changes.ts';
import { type ClusterRange, rangesOf } from './reference-counts.ts';
import { readTable } from './reference-walk.ts';
import type { ReferencedImage } from './references.ts';
import { Runs } from './runs.ts';
import { COMPRESSED_HIGH, COPIED_HIGH } from './spec.ts';
import { StoredRefcounts } from './stored-refcounts.ts';

export interface NewState extends MapChange {
  /** The active state becomes a copy of what this table says. */
  readonly active: L1Place;
  /** A snapshot has all of it too, so that no cluster of it may be written in place. */
  readonly shared: boolean;
  /** Entries of its L1 table. */
  readonly l1Size: number;
  /** The snapshot table; empty without snapshots. */
  readonly snapshotTable: Uint8Array;
  readonly nbSnapshots: number;
  /** Bytes of the snapshot table that there is. */
  readonly oldTableLength: number;
  /** Of the virtual disk. */
  readonly size: number;
}

/** What nothing points to once the switch is durable. */
export interface LeftOver {
  /** Clusters that hold one reference too many. */
  readonly clusters: Runs;
  /** Clusters that are free by the new refcounts. */
  readonly holes: Runs;
}

/** Numbers kept of holes: more of them stay as they are. */
const MAX_HOLES = 2 ** 20;

/**
 * Carries out a switch. Nothing may wait to be written, and after it all tables must be read anew;
 * where it throws before the header was written, everything is as it was.
 */
export async function switchState(
  image: ReferencedImage,
  context: PlaceContext,
  state: NewState,
): Promise<LeftOver> {
  await context.tables.loadRefcountTable();
  const change = new StateSwitch(image, context, state);
  const taken = new NewClusters(context);
  try {
    await change.survey();
    await change.take(taken);
    await change.write();
  } catch (error) {
    await taken.giveBack().catch(() => undefined);
    throw error;
  }
  return await change.turn();
}

class StateSwitch {
  readonly #image: ReferencedImage;
  readonly #context: PlaceContext;
  readonly #state: NewState;
  readonly #ranges: readonly ClusterRange[];
  /** The new L1 table. */
  readonly #l1: Uint8Array;
  /** L1 index -> where the copy of its L2 table goes. */
  readonly #copies = new Map<number, number>();
  /** Index of a refcount block -> where its new version goes. */
  readonly #blocks = new Map<number, number>();
  #refcountTable: Uint8Array | undefined;
  #refcountTableOffset = 0;
  #l1Offset: number;
  #snapshotsOffset = 0;
  readonly #left = { clusters: new Runs(), holes: new Runs() };

  constructor(image: ReferencedImage, context: PlaceContext, state: NewState) {
    this.#image = image;
    this.#context = context;
    this.#state = state;
    this.#ranges = rangesOf(image);
    this.#l1 = new Uint8Array(state.l1Size * 8);
    this.#l1Offset = context.tables.l1Offset;
  }

  get #storage(): Storage {
    return this.#image.storage;
  }

  /** Finds what has to be written anew, and what speaks against it. */
  async survey(): Promise<void> {
    const { active, shared } = this.#state;
    const { tables, geometry } = this.#context;
    this.#l1.set(await readTable(this.#storage, active.offset, active.size * 8));
    this.#checkL1();
    for (const range of this.#ranges) {
      const changes = await RefcountChanges.count(this.#image, this.#state, range);
      const first = refcountTableIndexOf(range.first, geometry);
      const end = first + range.count / geometry.refcountBlockEntries;
      for (let i = first; i < Math.min(end, this.#blocksEnd); i++) {
        const block = await tables.refcountBlock(i);
        if (changes.changesBlock(i, block?.bytes ?? null)) this.#blocks.set(i, 0);
      }
      if (!shared) await this.#findUnshared(changes);
    }
    if (shared) await this.#findCopied();
  }

  /** Clusters past the last block have no refcount: an image that uses them was refused before. */
  get #blocksEnd(): number {
    const { geometry } = this.#context;
    return divideUp(
      divideUp(this.#storage.size, geometry.clusterSize) + 1,
      geometry.refcountBlockEntries,
    );
  }

  /** Each L2 table once: honest images have it so, and others would make us write for ever. */
  #checkL1(): void {
    const offsets = Float64Array.from(this.#l2Tables(), ([, offset]) => offset).sort();
    const twice = offsets.findIndex((offset, i) => i > 0 && offset === offsets[i - 1]);
    if (twice < 0) return;
    throw new ImageError(
      'corrupt',
      `${this.#storage.filename}: the L1 table has the L2 table at offset ` +
        `0x${(offsets[twice] ?? 0).toString(16)} twice`,
      { errno: 'EIO', hint: `Run 'qimg-ts check -r all' first.` },
    );
  }

  *#l2Tables(): Generator<readonly [index: number, offset: number]> {
    const view = viewOf(this.#l1);
    for (let index = 0; index < this.#state.l1Size; index++) {
      const offset = clusterOffset(view.getUint32(index * 8), view.getUint32(index * 8 + 4));
      if (offset !== 0) yield [index, offset];
    }
  }

  /** All is shared: tables that call a cluster of theirs used once need a copy. */
  async #findCopied(): Promise<void> {
    for (const [index, offset] of this.#l2Tables()) {
      const view = viewOf(await this.#l2(offset));
      const { clusterSize, l2EntryBytes } = this.#context.geometry;
      for (let at = 0; at < clusterSize; at += l2EntryBytes) {
        if (!(view.getUint32(at) & COPIED_HIGH)) continue;
        this.#copies.set(index, 0);
        break;
      }
    }
  }

  /** Tables with a cluster that comes to be used once. */
  async #findUnshared(changes: RefcountChanges): Promise<void> {
    for (const [index, offset] of this.#l2Tables()) {
      if (this.#copies.has(index)) continue;
      for (const [, cluster] of this.#notCopied(viewOf(await this.#l2(offset)))) {
        const drops = changes.drops(cluster);
        if (drops === 0 || (await this.#context.tables.refcount(cluster)) - drops !== 1) continue;
        this.#copies.set(index, 0);
        break;
      }
    }
  }

  async #l2(offset: number): Promise<Uint8Array> {
    return await readTable(this.#storage, offset, this.#context.geometry.clusterSize);
  }

  /** Standard clusters of an L2 table that are used more than once so far. */
  *#notCopied(view: DataView): Generator<readonly [at: number, cluster: number]> {
    const { geometry } = this.#context;
    for (let at = 0; at < geometry.clusterSize; at += geometry.l2EntryBytes) {
      const high = view.getUint32(at);
      if (high & (COPIED_HIGH | COMPRESSED_HIGH)) continue;
      const host = clusterOffset(high, view.getUint32(at + 4));
      if (host !== 0) yield [at, clusterIndexOf(host, geometry)];
    }
  }

  /** Clusters for all of it, durably taken: until the switch they are leaks. */
  async take(taken: NewClusters): Promise<void> {
    const { snapshotTable, l1Size } = this.#state;
    if (l1Size > 0) this.#l1Offset = await taken.piece(l1Size * 8);
    if (snapshotTable.length > 0) this.#snapshotsOffset = await taken.piece(snapshotTable.length);
    await taken.singles(this.#copies);
    await taken.singles(this.#blocks);
    const { tables } = this.#context;
    if (this.#blocks.size > 0) {
      // Taking room for the table may itself make the table grow.
      for (let length = 0; length !== tables.refcountTablePlace.length; ) {
        if (length > 0) taken.release(this.#refcountTableOffset);
        ({ length } = tables.refcountTablePlace);
        this.#refcountTableOffset = await taken.piece(length);
      }
    }
    await tables.checkpoint();
  }

  /** Writes everything that nothing points to yet, and makes it durable. */
  async write(): Promise<void> {
    const { tables, geometry } = this.#context;
    const { offset, length } = tables.refcountTablePlace;
    const table = await readTable(this.#storage, offset, length);
    if (this.#blocks.size > 0) {
      for (const range of this.#ranges) await this.#writeBlocks(range);
      for (const [i, place] of this.#blocks) writeU64(viewOf(table), i * 8, place);
      await this.#storage.write(this.#refcountTableOffset, table, 'refcount-table');
      this.#refcountTable = table;
    }
    const refcounts = new StoredRefcounts(this.#storage, geometry, table, () => undefined);
    for (const [index, offset] of this.#l2Tables()) await this.#writeL2(index, offset, refcounts);
    const { snapshotTable } = this.#state;
    if (this.#l1.length > 0) await this.#storage.write(this.#l1Offset, this.#l1, 'l1');
    if (snapshotTable.length > 0) {
      await this.#storage.write(this.#snapshotsOffset, snapshotTable, 'snapshot-table');
    }
    await this.#storage.flush();
  }

  async #writeBlocks(range: ClusterRange): Promise<void> {
    const { tables, geometry } = this.#context;
    const first = refcountTableIndexOf(range.first, geometry);
    const end = first + range.count / geometry.refcountBlockEntries;
    const mine = [...this.#blocks].filter(([i]) => i >= first && i < end);
    if (mine.length === 0) return;
    const changes = await RefcountChanges.count(this.#image, this.#state, range);
    const { holes, clusters } = this.#left;
    for (const [i, place] of mine) {
      const block = await tables.refcountBlock(i);
      if (block === null) continue;
      const bytes = block.bytes.slice();
      changes.apply(i, bytes, (cluster) => {
        if (holes.length < MAX_HOLES) holes.add(cluster, 1);
      });
      await this.#storage.write(place, bytes, 'refcount-block');
      clusters.add(clusterIndexOf(block.offset, geometry), 1);
    }
  }

  /** Its copy where it gets one, and its entry in the new L1 table. */
  async #writeL2(index: number, offset: number, refcounts: StoredRefcounts): Promise<void> {
    const { geometry } = this.#context;
    const view = viewOf(this.#l1);
    const copy = this.#copies.get(index);
    if (copy === undefined) {
      const refcount = await refcounts.get(clusterIndexOf(offset, geometry));
      encodeEntry(view, index * 8, offset, { copied: refcount === 1, zero: false });
      return;
    }
    const bytes = await this.#l2(offset);
    const table = viewOf(bytes);
    if (this.#state.shared) {
      for (let at = 0; at < geometry.clusterSize; at += geometry.l2EntryBytes) {
        table.setUint32(at, (table.getUint32(at) & ~COPIED_HIGH) >>> 0);
      }
    } else await this.#markUnshared(table, refcounts);
    await this.#storage.write(copy, bytes, 'l2');
    encodeEntry(view, index * 8, copy, { copied: true, zero: false });
    this.#left.clusters.add(clusterIndexOf(offset, geometry), 1);
  }

  async #markUnshared(table: DataView, refcounts: StoredRefcounts): Promise<void> {
    const { geometry } = this.#context;
    const { refcountBlockEntries, refcountOrder } = geometry;
    for (const [at, cluster] of this.#notCopied(table)) {
      const block = await refcounts.block(refcountTableIndexOf(cluster, geometry));
      if (block === null || block === 'unreadable') continue;
      if (getRefcount(block, cluster % refcountBlockEntries, refcountOrder) !== 1) continue;
      table.setUint32(at, (table.getUint32(at) | COPIED_HIGH) >>> 0);
    }
  }

  /** The switch itself. */
  async turn(): Promise<LeftOver> {
    const { tables, geometry } = this.#context;
    const { nbSnapshots, size, l1Size, drops, gains } = this.#state;
    const old = this.#image.header;
    const patch: HeaderPatch = {
      nbSnapshots,
      snapshotsOffset: this.#snapshotsOffset,
      l1TableOffset: this.#l1Offset,
      l1Size,
      size,
      ...(this.#refcountTable !== undefined && {
        refcountTableOffset: this.#refcountTableOffset,
        refcountTableClusters: this.#refcountTable.length / geometry.clusterSize,
      }),
    };
    const leave = (offset: number, length: number): void => {
      const count = alignUp(length, geometry.clusterSize) / geometry.clusterSize;
      if (count > 0) this.#left.clusters.add(clusterIndexOf(offset, geometry), count);
    };
    const { offset, length } = tables.refcountTablePlace;
    if (this.#refcountTable !== undefined) leave(offset, length);
    // As a snapshot's table it stays; where it is dropped, its references are counted.
    const kept = gains?.offset === tables.l1Offset || drops?.offset === tables.l1Offset;
    if (!kept) leave(tables.l1Offset, tables.l1Entries * 8);
    leave(old.snapshotsOffset, this.#state.oldTableLength);
    await tables.patchHeaderNow(patch);
    return this.#left;
  }
}
