// Files in memory on a machine that fails: the n-th call of a kind in a file, once or from then on, with
// an error as the files of the real machine have them.

import { ImageError, strerror } from '../../src/errors.ts';
import { FilterStorage } from '../../src/io/filter.ts';
import type { OpenStorageOptions } from '../../src/io/host.ts';
import type { Permission } from '../../src/io/locks.ts';
import { MemoryHost, type MemoryHostOptions } from '../../src/io/memory-host.ts';
import type { CloneRange, Storage, StorageExtent, WriteKind } from '../../src/io/storage.ts';

/**
 * What may fail, and how that is told; nothing is told of what has another way. `copy` is done within
 * the machine, in `clone` extents are shared.
 */
export const FAULTS = {
  open: 'Could not open',
  lock: 'Could not lock',
  reopen: 'Could not reopen',
  read: 'Could not read from',
  write: 'Could not write to',
  zero: 'Could not zero',
  copy: 'Could not copy to',
  clone: 'Could not copy to',
  resize: 'Could not resize',
  flush: 'Could not flush',
  remove: 'Could not remove',
  discard: null,
  extent: null,
} as const;

export type FaultKind = keyof typeof FAULTS;

/** A full disk fails these; where it allocates late, a flush too. */
export const NEED_ROOM: ReadonlySet<FaultKind> = new Set<FaultKind>([
  'write',
  'zero',
  'copy',
  'clone',
  'resize',
  'flush',
]);

export interface Fault {
  readonly kind: FaultKind;
  readonly filename: string;
  /** Counted from 0. */
  readonly n: number;
  readonly errno: 'EIO' | 'ENOSPC' | 'EINTR';
  /** Each such call from there on fails, in each file, else that one alone. */
  readonly forever: boolean;
}

export interface FaultyHostOptions extends MemoryHostOptions {
  /** Files can share extents. */
  readonly clones?: boolean;
}

export class FaultyHost extends MemoryHost {
  /** So far, as `KIND FILE`. */
  readonly calls = new Map<string, number>();
  /** Files in which a call has failed. */
  readonly failedIn = new Set<string>();
  readonly #clones: boolean;
  #fault: Fault | undefined;

  constructor(options: FaultyHostOptions = {}) {
    super(options);
    this.#clones = options.clones ?? false;
  }

  /** Arms it, or puts it right. */
  arm(fault: Fault | undefined): void {
    this.#fault = fault;
    this.calls.clear();
    this.failedIn.clear();
  }

  /** True where this call is to fail. */
  fails(kind: FaultKind, filename: string): boolean {
    const key = `${kind} ${filename}`;
    const call = this.calls.get(key) ?? 0;
    this.calls.set(key, call + 1);
    const fault = this.#fault;
    if (fault === undefined || fault.kind !== kind) return false;
    const isIt = fault.filename === filename && call === fault.n;
    if (!isIt && !(fault.forever && this.failedIn.size > 0)) return false;
    this.failedIn.add(filename);
    return true;
  }

  /** Throws where this call is to fail. */
  meet(kind: FaultKind, filename: string, offset?: number): void {
    if (!this.fails(kind, filename)) return;
    const errno = this.#fault?.errno ?? 'EIO';
    const where = offset === undefined ? '' : ` at offset ${offset}`;
    const code = errno === 'ENOSPC' ? 'no-space' : 'io';
    const words = `${FAULTS[kind]} '${filename}'${where}: ${strerror(errno)}`;
    throw new ImageError(code, words, { errno });
  }

  override async openStorage(filename: string, options: OpenStorageOptions): Promise<Storage> {
    this.meet('open', filename);
    const storage = await super.openStorage(filename, options);
    return this.#clones ? new CloningStorage(storage, this) : new FaultyStorage(storage, this);
  }

  override async remove(filename: string): Promise<void> {
    this.meet('remove', filename);
    await super.remove(filename);
  }
}

class FaultyStorage extends FilterStorage {
  protected readonly host: FaultyHost;

  constructor(inner: Storage, host: FaultyHost) {
    super(inner);
    this.host = host;
  }

  override async read(offset: number, target: Uint8Array): Promise<void> {
    this.host.meet('read', this.filename, offset);
    await super.read(offset, target);
  }

  override async write(offset: number, source: Uint8Array, kind: WriteKind): Promise<void> {
    this.host.meet('write', this.filename, offset);
    await super.write(offset, source, kind);
  }

  override async zero(offset: number, length: number, kind: WriteKind): Promise<void> {
    this.host.meet('zero', this.filename, offset);
    await super.zero(offset, length, kind);
  }

  /** A hint: nobody hears of it. */
  override async discard(offset: number, length: number): Promise<void> {
    if (!this.host.fails('discard', this.filename)) await super.discard(offset, length);
  }

  /** Done by halves, as the machine may: the rest goes through a buffer. */
  override async copyFrom(
    source: Storage,
    from: number,
    to: number,
    length: number,
  ): Promise<number> {
    this.host.meet('copy', this.filename, to);
    const bytes = new Uint8Array(Math.min(Math.ceil(length / 2), Math.max(0, source.size - from)));
    await source.read(from, bytes);
    if (bytes.length > 0) await super.write(to, bytes, 'data');
    return bytes.length;
  }

  /** Who can't be asked has data to the end. */
  override async extentAt(offset: number): Promise<StorageExtent> {
    if (this.host.fails('extent', this.filename)) return { data: true, end: this.size };
    return await super.extentAt(offset);
  }

  override async flush(): Promise<void> {
    this.host.meet('flush', this.filename);
    await super.flush();
  }

  override async resize(size: number): Promise<void> {
    this.host.meet('resize', this.filename, size);
    await super.resize(size);
  }

  override async lock(use: readonly Permission[], share: readonly Permission[]): Promise<void> {
    this.host.meet('lock', this.filename);
    await super.lock(use, share);
  }

  override async makeWritable(
    use: readonly Permission[],
    share: readonly Permission[],
  ): Promise<void> {
    this.host.meet('reopen', this.filename);
    await super.makeWritable(use, share);
  }
}

/** Its files share extents with others: half of what is asked for at a time. */
class CloningStorage extends FaultyStorage {
  async canClone(): Promise<boolean> {
    return true;
  }

  async cloneFrom(ranges: readonly CloneRange[]): Promise<number> {
    const some = ranges.slice(0, Math.ceil(ranges.length / 2));
    for (const { source, from, to, length } of some) {
      this.host.meet('clone', this.filename, to);
      const bytes = new Uint8Array(length);
      await source.read(from, bytes);
      await this.inner.write(to, bytes, 'data');
    }
    return some.length;
  }
}
