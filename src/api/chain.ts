/// <reference lib="esnext.disposable" preserve="true" />
// What a user of the library holds: a chain and its layers. Interfaces alone, so that nothing of the
// engine shows through them.

import type { CacheMode, Host } from '../io/host.ts';
import type { Secrets } from './secrets.ts';

/** Stops a long call between two pieces of work; the call rejects with the signal's reason. */
export interface Cancellable {
  /** Default: none. */
  readonly signal?: AbortSignal;
}

/** Part of a virtual disk. */
export interface RangeOptions extends Cancellable {
  /** First byte, 0 to the disk's size. Default 0. */
  readonly offset?: number;
  /** Length in bytes; the range must end inside the disk. Default: to the end of the disk. */
  readonly length?: number;
}

/** How {@link Chain.view} cuts the disk. */
export interface ViewOptions extends RangeOptions {
  /** Length of a piece in bytes, 1 or more; the last one may be shorter. Default 1 MiB. */
  readonly pieceBytes?: number;
}

/** How {@link openChain} opens images. */
export interface OpenOptions extends Cancellable {
  /** Format of the top. Default: probed from its first bytes. */
  readonly format?: 'qcow2' | 'raw';
  /**
   * Opens the top for writing; the layers below stay read-only. Default false. Changes to an image
   * that was opened from bytes are made to a copy of them.
   */
  readonly writable?: boolean;
  /**
   * Opens the backing files too. Default true. Without them what the top does not hold is refused
   * with `invalid`, but in the extents of the layer itself.
   */
  readonly backing?: boolean;
  /**
   * Opens images that can only be described too, as encrypted ones without their keys; reading their
   * data rejects with `invalid`. Default false.
   */
  readonly describe?: boolean;
  /** Passphrases of encrypted layers. Default: none, so that those are refused with `invalid`. */
  readonly secrets?: Secrets;
  /** Durability of writes. Default `writeback`: durable once `flush` has resolved. */
  readonly cache?: CacheMode;
  /** Keeps nobody out by image locks, so that an image that somebody writes to can be read. Default false. */
  readonly forceShare?: boolean;
  /**
   * Most bytes of tables in memory, for each layer; a few tables are always kept. Default: up to 16
   * MiB, less for the lower layers of deep chains.
   */
  readonly cacheBytes?: number;
  /**
   * Where files are found. Default: this machine (`nodeHost`) for names and descriptions; for bytes
   * and storages a host without any files, so that an image from elsewhere can't make us read ours.
   * Relative names of backing files are looked up beside the name of the image; for a storage
   * `https://host/a/top` whose header names `base` that is `https://host/a/base`.
   */
  readonly host?: Host;
}

/** A stretch of the disk as one layer has it. */
export interface LayerExtent {
  /**
   * - `data`: bytes of the layer's own.
   * - `zero`: reads as zeros, whatever lies below.
   * - `unallocated`: the layer says nothing, the layer below decides.
   *
   * Source: the specification's "L2 table entry"; holes of the file for raw layers.
   */
  readonly kind: 'data' | 'zero' | 'unallocated';
  /** First byte on the virtual disk. */
  readonly offset: number;
  /** In bytes, 1 or more. */
  readonly length: number;
  /** The bytes are stored compressed. */
  readonly compressed: boolean;
}

/** A stretch of the disk as the guest sees it through the whole chain. */
export interface ChainExtent {
  /** `zero` where a layer says so, or where none says anything. */
  readonly kind: 'data' | 'zero';
  /** First byte on the virtual disk. */
  readonly offset: number;
  /** In bytes, 1 or more. */
  readonly length: number;
  /** Index in {@link Chain.layers} of the layer that decides; null where none says anything. */
  readonly layer: number | null;
  /** The bytes are stored compressed. */
  readonly compressed: boolean;
}

/** A stretch of the disk through the whole chain, and where its bytes lie. */
export interface BlockStatus {
  /**
   * - `data`: bytes of the layer.
   * - `hole`: space of the layer's file that nothing was written to yet; reads as zeros.
   * - `zero`: the layer says that there are zeros.
   * - `absent`: no layer holds the range; reads as zeros.
   */
  readonly kind: 'data' | 'hole' | 'zero' | 'absent';
  /** First byte on the virtual disk. */
  readonly offset: number;
  /** In bytes, 1 or more. */
  readonly length: number;
  /**
   * Index in {@link Chain.layers} of the layer that decides; for `absent` the lowest one whose disk
   * reaches so far.
   */
  readonly layer: number;
  /**
   * Where it starts in that layer's file, as it is there, in bytes; of zeros: the space kept for
   * them. Null where there is no such place, or compressed.
   */
  readonly hostOffset: number | null;
}

/** An internal snapshot. Source: the specification's "Snapshots". */
export interface Snapshot {
  /** A number, mostly; unique in its image. */
  readonly id: string;
  /** As it was given. */
  readonly name: string;
  /** When it was taken. */
  readonly date: Date;
  /** Size of the guest's disk then, in bytes. */
  readonly diskSize: number;
  /** Bytes of the machine's state that were saved with it; 0 for a snapshot of the disk alone. */
  readonly vmStateSize: number;
}

/** What the header of a qcow2 image says. Source: the specification's "Header". */
export interface Qcow2Details {
  /** 2 ("compat 0.10") or 3 ("compat 1.1"). */
  readonly version: number;
  /** 1 to 64, a power of two. */
  readonly refcountBits: number;
  /** Of all of its compressed clusters. */
  readonly compressionType: 'zlib' | 'zstd';
  /** Its refcounts may be written late; it is marked dirty meanwhile. */
  readonly lazyRefcounts: boolean;
  /** It was not closed properly; its refcounts are rebuilt before the first write. */
  readonly dirty: boolean;
  /** Somebody found it corrupt; it can't be written to. */
  readonly corrupt: boolean;
  /** The feature that keeps its data from being read here, in words; null if there is none. */
  readonly unsupported: string | null;
}

/** Format of a layer; `json:{...}` names can also mean the protocols and filters that they name. */
export type LayerFormat = 'qcow2' | 'raw' | 'file' | 'host_device' | 'null-co' | 'blkdebug' | 'nbd';

/** One image of a chain. It lives as long as its chain is open. */
export interface Layer {
  /** The file, as resolved; where there is none, the name of what is there instead. */
  readonly filename: string;
  /** The name as the layer above stores it, or as it was given. */
  readonly storedName: string;
  /** As stored, given or, where neither, probed. */
  readonly format: LayerFormat;
  /** False where the format was guessed from the content: such a layer is never written to. */
  readonly formatKnown: boolean;
  /** Size of the virtual disk in bytes; layers of one chain may differ. */
  readonly size: number;
  /** Unit of allocation in bytes: 512 to 2 MiB, a power of two; 512 for raw files. */
  readonly clusterSize: number;
  /** The name of its backing file as its header stores it; null without one. */
  readonly backingFile: string | null;
  /** The format of its backing file as its header stores it; null where it does not say. */
  readonly backingFormat: string | null;
  /** Null for raw files. */
  readonly qcow2: Qcow2Details | null;

  /** Bytes that its file takes on the host; undefined where nobody knows. Rejects with `io`. */
  allocatedBytes(): Promise<number | undefined>;
  /** Its internal snapshots, in the order of the table. Rejects with `corrupt` or `io`. */
  snapshots(): Promise<readonly Snapshot[]>;
  /**
   * What this layer itself says about the disk: gapless and in order; neighbours of one kind are
   * mostly, but not always, one extent. Rejects with `invalid` for a range outside of the disk,
   * `corrupt`, `unsupported` or `io`.
   */
  extents(options?: RangeOptions): AsyncGenerator<LayerExtent, void, undefined>;
  /** Fills `target` with what is seen through this layer and those below. As {@link Chain.read}. */
  read(offset: number, target: Uint8Array, options?: Cancellable): Promise<void>;
}

/**
 * Images joined by their backing files. Whoever opens it closes it: hold it with `await using`, or
 * call `close`.
 *
 * Calls may overlap. Offsets and lengths are bytes; a range outside of the disk is refused with
 * `invalid`.
 */
export interface Chain extends AsyncDisposable {
  /** Top first. */
  readonly layers: readonly [Layer, ...Layer[]];
  /** Size of the guest's disk in bytes. */
  readonly size: number;

  /**
   * Fills `target` with the guest's view from `offset` on. Rejects with `invalid`, `corrupt` (an
   * image contradicts itself, a compressed cluster can't be inflated), `unsupported` or `io`.
   */
  read(offset: number, target: Uint8Array, options?: Cancellable): Promise<void>;
  /**
   * Writes into the top; durable after `flush`. Where a signal stops it, a part from the start of
   * the range may be written. Rejects with `read-only`, `invalid`, `corrupt`, `unsupported`,
   * `no-space` or `io`.
   */
  write(offset: number, source: Uint8Array, options?: Cancellable): Promise<void>;
  /**
   * Makes a range read as zeros, in the top, the cheapest way it has; durable after `flush`. Stopped
   * and rejects as `write`.
   */
  zero(offset: number, length: number, options?: Cancellable): Promise<void>;
  /** The guest's view in pieces, in order, each a buffer of its own. Rejects as `read`. */
  view(options?: ViewOptions): AsyncGenerator<Uint8Array, void, undefined>;
  /**
   * Which layer the guest's bytes come from: gapless, in order, all layers merged. Rejects as
   * `read`.
   */
  extents(options?: RangeOptions): AsyncGenerator<ChainExtent, void, undefined>;
  /**
   * The same as `qemu-img map` tells it: where the bytes lie in the layer's file, and which clusters
   * are reserved alone. Gapless and in order; a stretch ends where anything changes, the place in
   * the file included. Rejects as `read`.
   *
   * Source: what `qemu-img map --output=json` prints; `present` is all but `absent`.
   */
  status(options?: RangeOptions): AsyncGenerator<BlockStatus, void, undefined>;
  /** Everything written before is durable when this resolves. Rejects with `no-space` or `io`. */
  flush(): Promise<void>;
  /**
   * Flushes what was written and closes all images. May be called twice. The first error is thrown
   * after all have been closed.
   */
  close(): Promise<void>;
}
