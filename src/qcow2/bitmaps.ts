// The persistent bitmaps of an open image: the list, and recording what is written.
//
// Before the first write after they were stored, those that record are marked "in use", durably:
// from then on the file's version may miss something, and who finds it so takes it for inconsistent.
// What is written is noted in memory, once for all bitmaps, at the finest of their granularities.
// Storing writes new versions beside the old ones (bitmap-store.ts), a new directory, and switches
// the header to it; only that makes them right again.
//
// Methods that change the file, but for noteWrites, are called by the holder of the image's queue.

import { assert, ImageError, withState } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import type { GrowOptions } from '../layer.ts';
import { alignDown, MIB, SECTOR } from '../units.ts';
import { Bits, type Stretch } from './bitmap-bits.ts';
import {
  type BitmapEntry,
  bitmapFlags,
  isBitmapTooLarge,
  type NewBitmapEntry,
  readBitmapDirectory,
} from './bitmap-directory.ts';
import {
  type BitmapsOwner,
  type DirectoryPlace,
  directoryClusters,
  directoryPlaceIn,
  switchDirectory,
  usedOf,
  writeDirectory,
} from './bitmap-publish.ts';
import { BitmapWriter, type StoredTable } from './bitmap-store.ts';
import { checkBitmapTable, storedStretches } from './bitmap-table.ts';
import { viewOf } from './fields.ts';
import type { Header } from './header.ts';
import type { Mutex } from './mutex.ts';
import { BITMAP_ENTRY } from './spec.ts';

/** One bitmap as it is to be. */
export interface Bitmap {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly granularity: number;
  /** It misses changes that nobody knows of: nothing can be done with it but removing it. */
  readonly inconsistent: boolean;
  /** It records what is written. */
  enabled: boolean;
  /** Its version in the file; null where there is none yet. */
  stored: BitmapEntry | null;
  /** The bits of that version count. */
  keeps: boolean;
  /** Bits in addition to those. */
  readonly added: Bits[];
}

/** What was noted is stored early when it takes more memory than this. */
const MAX_NOTED = 32 * MIB;

/** Of all bitmaps together: each table is looked at when the image is opened. */
const MAX_TABLES = 128 * MIB;

export class Bitmaps {
  readonly #owner: BitmapsOwner;
  #list: Bitmap[] = [];
  /** Entries of bitmaps that were removed from the list, and not from the file yet. */
  #removed: BitmapEntry[] = [];
  /** Size of the disk that the versions in the file are for. */
  #storedSize = 0;
  /** What is being written, while that is recorded. */
  #noted: Bits | null = null;
  /** What was noted before, and could not be stored yet. */
  #pending: Bits[] = [];
  /** Recording bitmaps are marked so in the file. */
  #recording = false;
  #failure: unknown;

  constructor(owner: BitmapsOwner) {
    this.#owner = owner;
  }

  /** Reads the list. Throws `corrupt` for bitmaps that QEMU would not open an image with. */
  async load(): Promise<void> {
    const { storage, header, context, size } = this.#owner;
    this.#storedSize = size();
    const { clusterSize } = context().geometry;
    const entries = await readBitmaps(storage, header(), this.#storedSize, clusterSize);
    this.#list = entries.map(fromEntry);
  }

  get list(): readonly Bitmap[] {
    return this.#list;
  }

  find(name: string): Bitmap | undefined {
    return this.#list.find((bitmap) => bitmap.name === name);
  }

  insert(bitmap: Bitmap): void {
    this.#list.push(bitmap);
  }

  remove(bitmap: Bitmap): void {
    this.#list = this.#list.filter((other) => other !== bitmap);
    if (bitmap.stored !== null) this.#removed.push(bitmap.stored);
  }

  /** Why the disk can't grow; null if it can. */
  whyFixedSize(size: number, { keepsInconsistent = false }: GrowOptions): string | null {
    const { clusterSize } = this.#owner.context().geometry;
    for (const { name, inconsistent, granularity } of this.#list) {
      if (inconsistent && keepsInconsistent) continue;
      if (inconsistent) return `its bitmap '${name}' is inconsistent (it can only be removed)`;
      if (isBitmapTooLarge(size, granularity, clusterSize)) {
        return `its bitmap '${name}' would become too large`;
      }
    }
    return null;
  }

  get #recorders(): readonly Bitmap[] {
    return this.#list.filter(({ enabled, inconsistent }) => enabled && !inconsistent);
  }

  /** Called before stretches are written, by who does not hold the queue. */
  async noteWrites(
    queue: Mutex,
    stretches: Iterable<{ readonly offset: number; readonly length: number }>,
  ): Promise<void> {
    while (!this.#recording) await queue.run(() => this.#begin());
    for (const { offset, length } of stretches) {
      if (this.#note(offset, length)) await queue.run(() => this.#storeNoted());
    }
  }

  /** From here on what is written can be noted. */
  async #begin(): Promise<void> {
    if (this.#recording) return;
    this.#checkAlive();
    const recorders = this.#recorders;
    await this.#mark(recorders, true);
    if (recorders.length > 0) {
      this.#noted = new Bits(Math.min(...recorders.map(({ granularity }) => granularity)));
    }
    this.#recording = true;
  }

  /** A stretch is about to be written. True when it is time to store what was noted. */
  #note(offset: number, length: number): boolean {
    if (this.#noted === null) return false;
    this.#noted.add(offset, offset + length);
    return this.#noted.bytes > MAX_NOTED;
  }

  /** The disk is about to grow: until they are stored, versions in the file are too short. */
  async beginToGrow(): Promise<void> {
    this.#checkAlive();
    await this.#mark(
      this.#list.filter(({ inconsistent }) => !inconsistent),
      true,
    );
  }

  /** Stores what was noted, so that its memory is free; recording goes on. */
  async #storeNoted(): Promise<void> {
    const noted = this.#noted;
    if (noted === null || noted.bytes <= MAX_NOTED) return;
    this.#pending.push(noted);
    this.#noted = new Bits(noted.granularity);
    await this.#store(true);
  }

  /** Makes the file say what the list says; durable when it resolves. */
  async store(): Promise<void> {
    if (this.#noted !== null) this.#pending.push(this.#noted);
    this.#noted = null;
    this.#recording = false;
    await this.#store(false);
  }

  /** Stores what `work` makes of the list; where it fails, what it did before that. */
  async change(work: (bitmaps: Bitmaps) => Promise<void>): Promise<void> {
    try {
      // What was recorded so far belongs to those that recorded it, whatever becomes of them.
      await this.store();
      try {
        await work(this);
      } finally {
        await this.store();
      }
    } catch (error) {
      throw withState(
        error,
        'Each bitmap is as it was or as it was to become; ' +
          'once the cause is gone, the same command may be run again.',
      );
    }
  }

  /** What a bitmap calls dirty, in batches; each ascends. */
  async *stretchesOf(bitmap: Bitmap): AsyncGenerator<Iterable<Stretch>> {
    const { storage, context } = this.#owner;
    if (bitmap.stored !== null && bitmap.keeps) {
      const { clusterSize } = context().geometry;
      yield* storedStretches(storage, bitmap.stored, this.#storedSize, clusterSize);
    }
    const noted = bitmap.enabled ? [...this.#pending, this.#noted] : [];
    for (const bits of [...bitmap.added, ...noted]) if (bits !== null) yield bits.stretches();
  }

  #checkAlive(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  #needsNewVersion({ stored, keeps, added, enabled, inconsistent }: Bitmap): boolean {
    if (inconsistent) return false;
    if (stored === null || !keeps || this.#owner.size() !== this.#storedSize) return true;
    return [...added, ...(enabled ? this.#pending : [])].some(({ isEmpty }) => !isEmpty);
  }

  async #store(goesOn: boolean): Promise<void> {
    this.#checkAlive();
    const changed = new Set(this.#list.filter((bitmap) => this.#needsNewVersion(bitmap)));
    if (changed.size > 0 || this.#removed.length > 0) await this.#publish(changed, goesOn);
    else if (!goesOn) {
      await this.#mark(
        this.#list.filter(({ inconsistent }) => !inconsistent),
        false,
      );
    }
    this.#pending = [];
    for (const bitmap of changed) bitmap.added.length = 0;
  }

  /** New versions of `changed`, and a new directory. */
  async #publish(changed: ReadonlySet<Bitmap>, goesOn: boolean): Promise<void> {
    const { storage, context } = this.#owner;
    const writer = new BitmapWriter(storage, context());
    let directory: DirectoryPlace | null;
    try {
      const entries: NewBitmapEntry[] = [];
      for (const bitmap of this.#list) {
        const inUse = bitmap.inconsistent || (goesOn && bitmap.enabled);
        const table = changed.has(bitmap) ? await this.#write(writer, bitmap) : bitmap.stored;
        assert(table !== null, 'a bitmap without a table');
        const { nameBytes, granularity, enabled } = bitmap;
        const { tableOffset, tableEntries } = table;
        entries.push({ nameBytes, granularity, enabled, inUse, tableOffset, tableEntries });
      }
      for (const entry of this.#removed) await dropRemoved(writer, entry);
      directory = await writeDirectory(this.#owner, writer, entries);
    } catch (error) {
      writer.letGo(writer.taken);
      throw error;
    }
    try {
      writer.replaced.push(...directoryClusters(this.#owner));
      await switchDirectory(this.#owner, directory);
      await this.#readStored();
    } catch (error) {
      // Nobody knows which directory counts now; both are right on their own.
      this.#failure = error;
      throw error;
    }
    writer.letGo(await usedOf(context(), writer.replaced));
    await context().tables.checkpoint();
  }

  async #write(writer: BitmapWriter, bitmap: Bitmap): Promise<StoredTable> {
    const { granularity, stored, keeps, added, enabled } = bitmap;
    if (stored !== null && !keeps) await writer.drop(stored);
    const content = {
      granularity,
      kept: keeps ? stored : null,
      keptSize: this.#storedSize,
      added: [...added, ...(enabled ? this.#pending : [])],
    };
    return await writer.store(content, this.#owner.size());
  }

  async #readStored(): Promise<void> {
    const entries = await readBitmapDirectory(this.#owner.storage, this.#owner.header());
    for (const [i, bitmap] of this.#list.entries()) {
      bitmap.stored = entries[i] ?? null;
      bitmap.keeps = true;
    }
    this.#removed = [];
    this.#storedSize = this.#owner.size();
  }

  /** Writes the flags of bitmaps, each in its place and inside one sector. */
  async #mark(bitmaps: readonly Bitmap[], inUse: boolean): Promise<void> {
    const { storage, header } = this.#owner;
    const directory = directoryPlaceIn(header());
    const sectors = new Map<number, Uint8Array>();
    const marked: Bitmap[] = [];
    for (const bitmap of bitmaps) {
      const { stored, enabled } = bitmap;
      if (stored === null || directory === null) continue;
      if (stored.inUse === inUse && stored.enabled === enabled) continue;
      const at = directory.directoryOffset + stored.position + BITMAP_ENTRY.flags;
      const start = alignDown(at, SECTOR);
      const sector = sectors.get(start) ?? new Uint8Array(SECTOR);
      if (!sectors.has(start)) await storage.read(start, sector);
      sectors.set(start, sector);
      viewOf(sector).setUint32(at - start, bitmapFlags({ inUse, enabled }));
      marked.push(bitmap);
    }
    if (marked.length === 0) return;
    // What was written before is durable before anything says that all of it was recorded.
    if (!inUse) await this.#owner.context().tables.checkpoint();
    for (const [start, sector] of sectors) await storage.write(start, sector, 'bitmap-directory');
    await storage.flush();
    for (const bitmap of marked) {
      if (bitmap.stored !== null) {
        bitmap.stored = { ...bitmap.stored, inUse, enabled: bitmap.enabled };
      }
    }
  }
}

/** The entries of the directory. Throws `corrupt` for what QEMU would not open an image with. */
export async function readBitmaps(
  storage: Storage,
  header: Header,
  diskSize: number,
  clusterSize: number,
): Promise<readonly BitmapEntry[]> {
  const entries = await readBitmapDirectory(storage, header);
  // By their bytes, which need not be UTF-8.
  const names = new Set<string>();
  let tableBytes = 0;
  for (const entry of entries) {
    tableBytes += entry.tableEntries * 8;
    if (tableBytes > MAX_TABLES) {
      throw new ImageError('unsupported', 'The tables of its bitmaps are too large');
    }
    const key = entry.nameBytes.join();
    if (names.has(key) && !entry.inUse) {
      throw new ImageError('corrupt', `Bitmap already exists: ${entry.name}`);
    }
    names.add(key);
    await checkBitmapTable(storage, entry, diskSize, clusterSize);
  }
  return entries;
}

function fromEntry(entry: BitmapEntry): Bitmap {
  const { name, nameBytes, granularity, enabled, inUse } = entry;
  const bits = { stored: entry, keeps: true, added: [] };
  return { name, nameBytes, granularity, enabled, inconsistent: inUse, ...bits };
}

/** Its table may be nonsense, as nobody looked at it: then what it used leaks. */
async function dropRemoved(writer: BitmapWriter, entry: BitmapEntry): Promise<void> {
  try {
    await writer.drop(entry);
  } catch (error) {
    if (!(error instanceof ImageError) || error.code !== 'corrupt') throw error;
  }
}
