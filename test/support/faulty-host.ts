// Files in memory on a machine that fails: the n-th call of a kind, once or from then on, with an error
// as the files of the real machine have them.

import { ImageError, strerror } from '../../src/errors.ts';
import { FilterStorage } from '../../src/io/filter.ts';
import type { OpenStorageOptions } from '../../src/io/host.ts';
import type { Permission } from '../../src/io/locks.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import type { Storage, StorageExtent, WriteKind } from '../../src/io/storage.ts';

/** What may fail, and how that is told. `copy` is done within the machine. */
export const FAULTS = {
  open: 'Could not open',
  lock: 'Could not lock',
  reopen: 'Could not reopen',
  read: 'Could not read from',
  write: 'Could not write to',
  zero: 'Could not zero',
  copy: 'Could not copy to',
  resize: 'Could not resize',
  flush: 'Could not flush',
  remove: 'Could not remove',
} as const;

export type FaultKind = keyof typeof FAULTS;

export interface Fault {
  readonly kind: FaultKind;
  /** Counted from 0, over all files. */
  readonly n: number;
  readonly errno: 'EIO' | 'ENOSPC';
  /** Each call from there on fails, else that one alone. */
  readonly forever: boolean;
}

export class FaultyHost extends MemoryHost {
  fault: Fault | undefined;
  /** Calls of that kind so far. */
  #calls = 0;
  /** Files in which it failed. */
  readonly failedIn = new Set<string>();

  /** Arms it, or puts it right. */
  arm(fault: Fault | undefined): void {
    this.fault = fault;
    this.#calls = 0;
    this.failedIn.clear();
  }

  /** Throws where this call is to fail. */
  meet(kind: FaultKind, filename: string, offset?: number): void {
    const { fault } = this;
    if (fault === undefined || fault.kind !== kind) return;
    const call = this.#calls++;
    if (call < fault.n || (call > fault.n && !fault.forever)) return;
    this.failedIn.add(filename);
    const { errno } = fault;
    const where = offset === undefined ? '' : ` at offset ${offset}`;
    const code = errno === 'ENOSPC' ? 'no-space' : 'io';
    const words = `${FAULTS[kind]} '${filename}'${where}: ${strerror(errno)}`;
    throw new ImageError(code, words, { errno });
  }

  override async openStorage(filename: string, options: OpenStorageOptions): Promise<Storage> {
    this.meet('open', filename);
    return new FaultyStorage(await super.openStorage(filename, options), this);
  }

  override async remove(filename: string): Promise<void> {
    this.meet('remove', filename);
    await super.remove(filename);
  }
}

class FaultyStorage extends FilterStorage {
  readonly #host: FaultyHost;

  constructor(inner: Storage, host: FaultyHost) {
    super(inner);
    this.#host = host;
  }

  override async read(offset: number, target: Uint8Array): Promise<void> {
    this.#host.meet('read', this.filename, offset);
    await super.read(offset, target);
  }

  override async write(offset: number, source: Uint8Array, kind: WriteKind): Promise<void> {
    this.#host.meet('write', this.filename, offset);
    await super.write(offset, source, kind);
  }

  override async zero(offset: number, length: number, kind: WriteKind): Promise<void> {
    this.#host.meet('zero', this.filename, offset);
    await super.zero(offset, length, kind);
  }

  /** Done by halves, as the machine may: the rest goes through a buffer. */
  override async copyFrom(
    source: Storage,
    from: number,
    to: number,
    length: number,
  ): Promise<number> {
    this.#host.meet('copy', this.filename, to);
    const bytes = new Uint8Array(Math.min(Math.ceil(length / 2), Math.max(0, source.size - from)));
    await source.read(from, bytes);
    if (bytes.length > 0) await super.write(to, bytes, 'data');
    return bytes.length;
  }

  override extentAt(offset: number): Promise<StorageExtent> {
    return super.extentAt(offset);
  }

  override async flush(): Promise<void> {
    this.#host.meet('flush', this.filename);
    await super.flush();
  }

  override async resize(size: number): Promise<void> {
    this.#host.meet('resize', this.filename, size);
    await super.resize(size);
  }

  override async lock(use: readonly Permission[], share: readonly Permission[]): Promise<void> {
    this.#host.meet('lock', this.filename);
    await super.lock(use, share);
  }

  override async makeWritable(
    use: readonly Permission[],
    share: readonly Permission[],
  ): Promise<void> {
    this.#host.meet('reopen', this.filename);
    await super.makeWritable(use, share);
  }
}
