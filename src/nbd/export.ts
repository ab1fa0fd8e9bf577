// What a server serves: named exports, each over something that answers requests for ranges of bytes.
// The server knows nothing of what is behind it.

/** A run of one status. */
export interface StatusRun {
  /** In bytes; at least 1. */
  readonly length: number;
  /** Takes no space of its own. */
  readonly hole: boolean;
  readonly zero: boolean;
}

/** A run of bytes that the same layer holds. */
export interface DepthRun {
  readonly length: number;
  /** 0: no layer holds them; 1: the top one; 2: the one below it. */
  readonly depth: number;
}

/** A run of bytes that a bitmap calls the same. */
export interface DirtyRun {
  readonly length: number;
  readonly dirty: boolean;
}

export interface ZeroOptions {
  /** The range need not keep its space. */
  readonly mayPunch: boolean;
  /** Rejects with `ENOTSUP` rather than writing zeros as data. */
  readonly fast: boolean;
}

/**
 * A disk. Ranges lie inside of it. Requests may come at the same time; those that overlap take turns.
 * Failures are `ImageError`s, whose errno goes to the client.
 */
export interface NbdDisk {
  /** In bytes. */
  readonly size: number;
  /** False: nobody can write, whatever an export allows. */
  readonly writable: boolean;
  read(offset: number, target: Uint8Array): Promise<void>;
  /** In the file when it resolves. `source` is not kept afterwards. */
  write(offset: number, source: Uint8Array): Promise<void>;
  zero(offset: number, length: number, options: ZeroOptions): Promise<void>;
  /** A hint: the range may read as anything afterwards. */
  discard(offset: number, length: number): Promise<void>;
  /** What was written before is durable when it resolves. */
  flush(): Promise<void>;
  /** From `offset` on, `most` runs at the most; may cover less than `length`, at least 1 byte. */
  status(offset: number, length: number, most: number): Promise<readonly StatusRun[]>;
  depths(offset: number, length: number, most: number): Promise<readonly DepthRun[]>;
  dirty(bitmap: string, offset: number, length: number, most: number): Promise<readonly DirtyRun[]>;
}

export interface NbdExport {
  /** At most 4096 bytes. */
  readonly name: string;
  readonly description?: string;
  readonly disk: NbdDisk;
  /** Clients may write, if the disk can be written. */
  readonly writable: boolean;
  /** Offers `qemu:allocation-depth`. */
  readonly allocationDepth?: boolean;
  /** Those that are offered as `qemu:dirty-bitmap:NAME`. */
  readonly bitmaps?: readonly string[];
}

/** Where a server looks exports up. */
export interface NbdExports {
  find(name: string): NbdExport | undefined;
  /** In the order in which they were added. */
  list(): readonly NbdExport[];
}
