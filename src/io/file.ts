// Regular files and block devices as Storage: reads and writes by node:fs, the rest by the optional
// system calls where they are there.

import * as fs from 'node:fs';
import { ImageError } from '../errors.ts';
import { MIB } from '../units.ts';
import { Descriptor } from './descriptor.ts';
import { DirectIo, directCalls } from './direct.ts';
import { EarlyWriteback } from './early-writeback.ts';
import { FileLocks, warnOnStderr } from './file-locks.ts';
import { callsOf, type FileMachine } from './file-machine.ts';
import {
  checkKind,
  checkOpened,
  isThrough,
  measure,
  type OpenedKind,
  openDescriptor,
  openFlags,
  reopenSame,
} from './file-open.ts';
import {
  canRelease,
  cloneRange,
  copyRange,
  extentOf,
  releaseRange,
  reserveRange,
  sharesExtents,
  zeroRange,
} from './file-ranges.ts';
import type { CacheMode, OpenStorageOptions } from './host.ts';
import type { Permission } from './locks.ts';
import { TRUNCATE } from './permissions.ts';
import type { CloneRange, Storage, StorageExtent, WriteKind } from './storage.ts';
import type { Syscalls } from './syscalls.ts';
import { errnoException, ioError, openError } from './system-error.ts';
import { cachedTransfers, repeated, syncData, type Transfers } from './transfer.ts';

const ZEROS = MIB;
let zeros: Uint8Array | undefined;

export interface FileOptions extends OpenStorageOptions, FileMachine {}

export class FileStorage implements Storage {
  readonly filename: string;
  readonly resizable: boolean;
  readonly #cache: CacheMode;
  readonly #locking: boolean;
  readonly #transfers: Transfers;
  /** They go around the page cache. */
  readonly #isDirect: boolean;
  readonly #calls: () => Promise<Syscalls | null>;
  readonly #early: EarlyWriteback;
  /** Whether extents of these can be shared, as far as that was asked for. */
  readonly #clones = new WeakMap<Storage, boolean>();
  #descriptor: Descriptor;
  #cached: Descriptor | undefined;
  #locks: FileLocks;
  #writable: boolean;
  #size: number;
  /** Writes under way, and how far they may make the file grow: it is not cut below that. */
  #growing = 0;
  #reach = 0;

  private constructor(
    filename: string,
    fd: number,
    { kind, direct, ...options }: FileOptions & { kind: OpenedKind; direct: Syscalls | undefined },
  ) {
    this.filename = filename;
    this.resizable = !kind.isDevice;
    this.#size = kind.size;
    this.#writable = options.writable;
    this.#cache = options.cache ?? 'writeback';
    this.#locking = options.locking ?? true;
    this.#calls = () => callsOf(options);
    this.#isDirect = direct !== undefined;
    this.#transfers = direct
      ? new DirectIo(filename, direct, () => this.#openCached())
      : cachedTransfers(filename, options.waits ?? 0);
    this.#early = new EarlyWriteback(this.#cache, this.#calls);
    this.#descriptor = new Descriptor(filename, fd);
    this.#locks = new FileLocks(filename, fd, this.#calls, options.warn ?? warnOnStderr);
  }

  static open(filename: string, options: FileOptions): Promise<FileStorage> {
    return FileStorage.#openWith(filename, options, 'Could not open', 0);
  }

  /** Creates a file, or takes one that exists; it is emptied once no other process uses it. */
  static async create(
    filename: string,
    machine: FileMachine & Pick<OpenStorageOptions, 'checkOpened'> = {},
  ): Promise<FileStorage> {
    const options = { ...machine, writable: true };
    const doing = 'Could not create';
    const storage = await FileStorage.#openWith(filename, options, doing, fs.constants.O_CREAT);
    try {
      await storage.lock(TRUNCATE.use, TRUNCATE.share);
      if (storage.resizable) await storage.resize(0);
      return storage;
    } catch (error) {
      await storage.close();
      throw error;
    }
  }

  static async #openWith(
    filename: string,
    options: FileOptions,
    doing: string,
    moreFlags: number,
  ): Promise<FileStorage> {
    checkKind(filename, options.writable, doing);
    const { writable, cache = 'writeback', warn = warnOnStderr } = options;
    const calls = () => callsOf(options);
    const direct = await directCalls(cache, calls, warn);
    const flags = openFlags(writable, cache, direct !== undefined) | moreFlags;
    let fd: number | undefined;
    try {
      fd = openDescriptor(filename, flags, doing);
      checkOpened(fd, options.checkOpened);
      const kind = await measure(fd, calls);
      return new FileStorage(filename, fd, { ...options, kind, direct });
    } catch (error) {
      if (fd !== undefined) fs.closeSync(fd);
      const access = options.writable ? 'open-for-writing' : 'open-for-reading';
      throw openError(doing, filename, error, access);
    }
  }

  get size(): number {
    return this.#size;
  }

  get writable(): boolean {
    return this.#writable;
  }

  get growsZeroed(): boolean {
    return this.resizable;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const inside = Math.max(0, Math.min(target.length, this.#size - offset));
    const part = target.subarray(0, inside);
    const done = await this.#descriptor.use((fd) => this.#transfers.read(fd, offset, part));
    // If somebody else has cut the file, what is missing reads as zeros, like all past the end.
    target.fill(0, done);
  }

  async write(offset: number, source: Uint8Array, _kind: WriteKind): Promise<void> {
    this.#checkWrite(offset, source.length);
    await this.#extend(offset, source.length, (fd) =>
      this.#transfers.write(fd, offset, source, (end) => this.#grown(end)),
    );
  }

  async zero(offset: number, length: number, kind: WriteKind): Promise<void> {
    this.#checkWrite(offset, length);
    const inside = Math.max(0, Math.min(length, this.#size - offset));
    if (inside > 0 && !(await this.#zeroInKernel(offset, inside))) {
      zeros ??= new Uint8Array(ZEROS);
      for (let done = 0; done < inside; done += ZEROS) {
        await this.write(offset + done, zeros.subarray(0, Math.min(ZEROS, inside - done)), kind);
      }
    }
    if (offset + length > this.#size) this.#truncate(offset + length);
    await this.#settle();
  }

  async #zeroInKernel(offset: number, length: number): Promise<boolean> {
    const calls = await this.#calls();
    try {
      return calls !== null && zeroRange(calls, this.#descriptor.fd, offset, length);
    } catch (error) {
      throw ioError('Could not zero', this.filename, offset, error);
    }
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#checkWrite(0, 0);
    const calls = await this.#calls();
    const inside = Math.min(length, this.#size - offset);
    if (calls !== null && inside > 0) releaseRange(calls, this.#descriptor.fd, offset, inside);
  }

  async discardFreesSpace(): Promise<boolean> {
    const calls = await this.#calls();
    if (calls === null || !this.resizable) return false;
    // Until it is writable nobody can try.
    return !this.#writable || canRelease(calls, this.#descriptor.fd, this.#size);
  }

  async copyFrom(source: Storage, from: number, to: number, length: number): Promise<number> {
    this.#checkWrite(to, length);
    const calls = await this.#calls();
    if (calls === null || !(source instanceof FileStorage)) return 0;
    const inside = Math.max(0, Math.min(length, source.size - from));
    let copied = 0;
    const reached = (done: number): void => {
      copied = done;
      this.#grown(to + done);
    };
    try {
      await source.#descriptor.use((sourceFd) =>
        this.#extend(to, inside, (fd) =>
          copyRange(calls, { fd: sourceFd, offset: from }, { fd, offset: to }, inside, reached),
        ),
      );
    } catch (error) {
      throw ioError('Could not copy to', this.filename, to + copied, error);
    }
    if (copied > 0) await this.#settle();
    return copied;
  }

  async canClone(source: Storage): Promise<boolean> {
    const known = this.#clones.get(source);
    if (known !== undefined) return known;
    const isFile = source instanceof FileStorage && this.resizable && source.resizable;
    const can = isFile && (await this.#calls()) !== null && sharesExtents(this, source);
    this.#clones.set(source, can);
    return can;
  }

  async cloneFrom(ranges: readonly CloneRange[]): Promise<number> {
    const calls = await this.#calls();
    let done = 0;
    for (const { source, from, to, length } of ranges) {
      this.#checkWrite(to, length);
      if (calls === null || !(source instanceof FileStorage) || from + length > source.size) break;
      const [origin, target] = [source.#descriptor.fd, this.#descriptor.fd];
      try {
        const place = { fd: target, offset: to };
        if (!cloneRange(calls, { fd: origin, offset: from }, place, length)) {
          this.#clones.set(source, false);
          break;
        }
      } catch (error) {
        throw ioError('Could not copy to', this.filename, to, error);
      }
      this.#grown(to + length);
      done++;
    }
    if (done > 0) await this.#settle();
    return done;
  }

  async extentAt(offset: number): Promise<StorageExtent> {
    const calls = await this.#calls();
    if (calls === null || !this.resizable) return { data: true, end: this.#size };
    return extentOf(calls, this.#descriptor.fd, offset, this.#size);
  }

  async allocatedBytes(): Promise<number> {
    return fs.fstatSync(this.#descriptor.fd).blocks * 512;
  }

  async allocate(offset: number, length: number): Promise<boolean> {
    this.#checkWrite(offset, length);
    const calls = await this.#calls();
    if (calls === null || !this.resizable || length === 0) return false;
    try {
      if (!reserveRange(calls, this.#descriptor.fd, offset, length)) return false;
    } catch (error) {
      // What there was of it has made the file longer, and is to be given back.
      if (offset + length > this.#size) this.#truncate(this.#size);
      throw ioError('Could not allocate space in', this.filename, offset, error);
    }
    this.#grown(offset + length);
    await this.#settle();
    return true;
  }

  async flush(): Promise<void> {
    if (this.#cache !== 'unsafe') await this.#sync();
  }

  async resize(size: number): Promise<void> {
    if (!this.resizable) {
      throw new ImageError('invalid', `'${this.filename}' is a device: its size is fixed`);
    }
    this.#checkWrite(0, 0);
    this.#truncate(size);
    await this.#settle();
  }

  async lock(use: readonly Permission[], share: readonly Permission[]): Promise<void> {
    if (!this.#locking) return;
    await this.#locks.change(use, share);
    this.#measureAgain();
  }

  async makeWritable(use: readonly Permission[], share: readonly Permission[]): Promise<void> {
    if (this.#writable) return this.lock(use, share);
    const old = this.#descriptor;
    let fd: number | undefined;
    try {
      fd = this.#reopen(this.#isDirect);
      if (this.#locking) this.#locks = await this.#locks.handOver(fd, use, share);
    } catch (error) {
      if (fd !== undefined) fs.closeSync(fd);
      throw openError('Could not reopen', this.filename, error, 'open-for-writing');
    }
    this.#descriptor = new Descriptor(this.filename, fd);
    this.#writable = true;
    this.#measureAgain();
    await old.close();
  }

  async close(): Promise<void> {
    await this.#descriptor.close();
    await this.#cached?.close();
  }

  /** For writing. Throws system errors. */
  #reopen(direct: boolean): number {
    return reopenSame(this.filename, openFlags(true, this.#cache, direct), this.#descriptor.fd);
  }

  /** The descriptor through the page cache of a file that is read and written around it. */
  #openCached(): number {
    try {
      this.#cached ??= new Descriptor(this.filename, this.#reopen(false));
      return this.#cached.fd;
    } catch (error) {
      throw openError('Could not reopen', this.filename, error, 'open-for-writing');
    }
  }

  /** Whoever had it before us may have changed its length since it was opened. */
  #measureAgain(): void {
    if (this.resizable) this.#size = fs.fstatSync(this.#descriptor.fd).size;
  }

  #checkWrite(offset: number, length: number): void {
    if (!this.#writable) {
      throw new ImageError('read-only', `'${this.filename}' is open for reading only`, {
        errno: 'EBADF',
      });
    }
    if (this.resizable || offset + length <= this.#size) return;
    const full = errnoException('write', 'ENOSPC');
    throw ioError('Could not write to', this.filename, offset, full);
  }

  /** Work that writes there, and may so move the end of the file. */
  async #extend(at: number, length: number, work: (fd: number) => Promise<void>): Promise<void> {
    this.#growing++;
    this.#reach = Math.max(this.#reach, at + length);
    try {
      await this.#descriptor.use(work);
    } finally {
      if (--this.#growing === 0) this.#reach = 0;
    }
    this.#early.written(this.#descriptor, length);
  }

  #grown(end: number): void {
    this.#size = Math.max(this.#size, end);
  }

  /**
   * Growing keeps clear of writes under way further on: the kernel may have taken them already,
   * before we hear of it, and a truncation between would cut them off.
   */
  #truncate(size: number): void {
    const target = size < this.#size ? size : Math.max(size, this.#reach);
    try {
      repeated(() => fs.ftruncateSync(this.#descriptor.fd, target));
    } catch (error) {
      throw ioError('Could not resize', this.filename, size, error);
    }
    this.#size = target;
  }

  /** O_DSYNC covers writes only: what else changes the file is made durable here. */
  async #settle(): Promise<void> {
    if (isThrough(this.#cache)) await this.#sync();
  }

  async #sync(): Promise<void> {
    const error = await this.#descriptor.use(syncData);
    // A character device has nothing to sync, and says EINVAL.
    if (error === null || (error.code === 'EINVAL' && !this.resizable)) return;
    throw ioError('Could not flush', this.filename, undefined, error);
  }
}
