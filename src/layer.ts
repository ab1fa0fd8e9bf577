// One virtual disk of a chain, whatever its format: the interface that chain and commit work with.

import { ImageError } from './errors.ts';
import type { PlacedRanges } from './io/placed-ranges.ts';
import type { Storage } from './io/storage.ts';

/** Where the bytes of a range lie as they are: uncompressed, in one piece, in a host file. */
export interface HostRange {
  readonly storage: Storage;
  readonly offset: number;
}

/** What a layer itself says about a range of the guest's disk. */
export type Extent =
  /** The layer says nothing: the backing file decides. */
  | {
      readonly kind: 'unallocated';
      readonly offset: number;
      readonly length: number;
      /** Where space in the file is kept for it all the same. */
      readonly host?: HostRange;
    }
  /** Reads as zeros, whatever lies below; `host` where space in the file is kept for it. */
  | {
      readonly kind: 'zero';
      readonly offset: number;
      readonly length: number;
      readonly host?: HostRange;
    }
  /** Bytes of its own; `host` is null where they must go through `read` (compressed). */
  | {
      readonly kind: 'data';
      readonly offset: number;
      readonly length: number;
      readonly host: HostRange | null;
    };

/** The driver whose guest's bytes a layer is; the formats proper are the first two. */
export type LayerFormat = 'qcow2' | 'raw' | 'file' | 'host_device' | 'null-co' | 'blkdebug' | 'nbd';

export interface GrowOptions {
  /** Bitmaps that are inconsistent (good for removal alone) stay as they are instead of refusing. */
  readonly keepsInconsistent?: boolean;
}

export interface Layer {
  /** The name for messages. */
  readonly filename: string;
  readonly format: LayerFormat;
  /** Size of the virtual disk in bytes. */
  readonly size: number;
  /** Unit of allocation in bytes; 512 for raw files. */
  readonly clusterSize: number;
  readonly writable: boolean;
  readonly storage: Storage;
  /** The layer below, which fills what this one does not allocate; null at the end of the chain. */
  backing: Layer | null;

  /**
   * The extents from `offset` on, in order and without gaps, neighbours of one kind merged. May
   * stop before `offset + length` (the caller asks again from there), but covers at least 1 byte.
   * The range must lie inside the disk.
   */
  extents(offset: number, length: number): Promise<readonly Extent[]>;
  /** Fills `target` with the guest's view through this layer and those below. */
  read(offset: number, target: Uint8Array): Promise<void>;
  write(offset: number, source: Uint8Array): Promise<void>;
  /** Makes the range read as zeros. */
  zero(offset: number, length: number): Promise<void>;
  /** Copies bytes that lie in a host file, inside the kernel where it can. */
  writeFrom(offset: number, source: HostRange, length: number): Promise<void>;
  /**
   * The same for many ranges, in the order of the disk, in whatever order suits the files; their
   * extents are shared where they can be. Resolves to how many of them are done, from the first on;
   * of the others, parts may be. Rejects when nothing is under way any more.
   */
  moveRanges?(ranges: PlacedRanges, watch?: MoveWatch): Promise<number>;
  /** Grows the virtual disk; the new area reads as zeros, even where a backing file is longer. */
  grow(size: number, options?: GrowOptions): Promise<void>;
  /** Everything written before is durable when this resolves. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

/** Who waits for ranges that move. */
export interface MoveWatch {
  /** Ends it, with its reason, before the next piece. */
  readonly signal?: AbortSignal;
  /** Bytes that were copied; what is shared moves too fast to be told of. */
  readonly moved?: (bytes: number) => void;
}

/** Throws unless the range lies inside the disk. */
export function checkRange(
  { filename, size }: Pick<Layer, 'filename' | 'size'>,
  offset: number,
  length: number,
): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && offset + length <= size) return;
  throw new ImageError(
    'invalid',
    `${filename}: range ${offset}+${length} is outside of the disk (${size} bytes)`,
  );
}
