// Bytes at offsets: what the engine needs of a host file, whatever is behind it.
// Knows no image format.

import type { StorageEvent } from './events.ts';
import type { Permission } from './locks.ts';

/** What a write carries. Faults, traces and order tests select on it. */
export type WriteKind =
  | 'data'
  | 'header'
  | 'l1'
  | 'l2'
  | 'refcount-table'
  | 'refcount-block'
  | 'snapshot-table'
  | 'bitmap'
  | 'bitmap-directory';

/** A stretch that starts where it was asked for and ends before `end`. */
export interface StorageExtent {
  /** False: reads as zeros and takes no space. True: may hold anything. */
  readonly data: boolean;
  /** First byte after the stretch; always greater than the offset that was asked for. */
  readonly end: number;
}

/** Bytes to be shared with another storage. */
export interface CloneRange {
  readonly source: Storage;
  /** Offset in the source. */
  readonly from: number;
  /** Offset here. */
  readonly to: number;
  readonly length: number;
}

/**
 * An array of bytes that lives outside of us: a file, a block device, memory, an object store.
 *
 * All offsets and lengths are bytes, safe integers, not negative. A failing call rejects with an
 * `ImageError` (`io`, `no-space`, `read-only`). Calls on ranges that don't overlap may run at the
 * same time; nothing is durable before a `flush` that was called after they ended.
 */
export interface Storage {
  /** The name for messages, as the user gave it. */
  readonly filename: string;
  /** Opened for writing, or made writable since. */
  readonly writable: boolean;
  /** Current length in bytes. */
  readonly size: number;
  /** False where the length is fixed (block devices). */
  readonly resizable: boolean;
  /** What messages call those of a fixed length. Not there: device files. */
  readonly fixedKind?: string | undefined;
  /** True where bytes past the end appear as zeros when it grows (not so on block devices). */
  readonly growsZeroed: boolean;

  /**
   * Hears what the image is about to do. Not there on storages that don't care, so that others pay
   * nothing for it; the request that is meant follows in the same turn.
   */
  event?(name: StorageEvent): void;
  /** Fills `target`; what lies past the end reads as zeros. The caller keeps `target`. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /** Writes all of `source`, growing a resizable storage. `source` is not kept afterwards. */
  write(offset: number, source: Uint8Array, kind: WriteKind): Promise<void>;
  /**
   * Makes the range read as zeros, the cheapest way there is (a hole, zeroed extents, written
   * zeros); grows a resizable storage to the end of the range.
   */
  zero(offset: number, length: number, kind: WriteKind): Promise<void>;
  /** A hint: nobody needs these bytes any more. They may read as anything afterwards. */
  discard(offset: number, length: number): Promise<void>;
  /**
   * True where what is discarded becomes free space for other files. Not there: nobody knows, and
   * nobody counts on it.
   */
  discardFreesSpace?(): Promise<boolean>;
  /**
   * Copies within the machine (clone of extents or in-kernel copy) from `source` to here.
   * Resolves to the bytes copied, from the start of the range; fewer than `length`, perhaps 0,
   * where the machine can't: the caller goes on through a buffer. Rejects on real I/O errors only.
   */
  copyFrom(source: Storage, from: number, to: number, length: number): Promise<number>;
  /** Whether `cloneFrom` is worth a try with that source. */
  canClone?(source: Storage): Promise<boolean>;
  /**
   * Has ranges share the extents of their sources, one after the other, so that no bytes move.
   * Resolves to how many are done: fewer where the machine can't (as where this is not
   * implemented). Rejects on real I/O errors. Like a write, it is durable with the next flush.
   */
  cloneFrom?(ranges: readonly CloneRange[]): Promise<number>;
  /** Data or hole at `offset` (which is below `size`). Without the system call: data to the end. */
  extentAt(offset: number): Promise<StorageExtent>;
  /** Bytes that it takes on its host now (0 for devices); undefined where nobody knows. */
  allocatedBytes(): Promise<number | undefined>;
  /**
   * Sets space aside for the range, so that writing there later does not run out of it; what it
   * holds stays, and a resizable storage grows to the end of the range. False where the machine
   * can't (as where this is not implemented): the caller writes the bytes. Rejects where there is
   * no room.
   */
  allocate?(offset: number, length: number): Promise<boolean>;
  /** Resolves when everything written before is durable. */
  flush(): Promise<void>;
  /** New length; the bytes that it gains read as zeros. */
  resize(size: number): Promise<void>;
  /**
   * Takes or changes the image locks: permissions that we use, and those that others may use
   * meanwhile. New locks are taken before old ones are dropped. Rejects with `busy`.
   */
  lock(use: readonly Permission[], share: readonly Permission[]): Promise<void>;
  /**
   * Makes a storage that was opened for reading writable, with these permissions. The locks held so
   * far are kept until the new ones are taken.
   */
  makeWritable(use: readonly Permission[], share: readonly Permission[]): Promise<void>;
  /** Drops locks and closes. May be called twice. Does not flush. */
  close(): Promise<void>;
}
