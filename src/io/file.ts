// Regular files and block devices as Storage, through file descriptors and their callbacks (the
// fastest way that Node.js has), and the optional system calls where they are there.

import * as fs from 'node:fs';
import { ImageError } from '../errors.ts';
import { MIB, SECTOR } from '../units.ts';
import { deviceNumber, FileLocks } from './file-locks.ts';
import type { CacheMode, OpenStorageOptions } from './host.ts';
import type { Permission } from './locks.ts';
import type { Storage, StorageExtent, WriteKind } from './storage.ts';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  loadSyscalls,
  type Syscalls,
} from './syscalls.ts';
import { errnoException, ioError, openError } from './system-error.ts';

const ZEROS = MIB;
/** One copy_file_range call: long enough to be worth it, short enough to stop in between. */
const COPY_CALL = 128 * MIB;
/** Reasons for which the kernel can't copy and a buffer can. */
const CANT_COPY = new Set([
  'EXDEV',
  'EINVAL',
  'ENOSYS',
  'EOPNOTSUPP',
  'ENOTSUP',
  'EPERM',
  'ETXTBSY',
  'EBADF',
]);
const TRANSIENT = new Set(['EINTR', 'EAGAIN']);
const MAX_RETRIES = 100;

export interface FileOptions extends OpenStorageOptions {
  /** For tests: undefined takes what the machine has, null does without. */
  readonly syscalls?: Syscalls | null;
}

export class FileStorage implements Storage {
  readonly filename: string;
  readonly resizable: boolean;
  #fd: number;
  #writable: boolean;
  #size: number;
  #open = true;
  readonly #cache: CacheMode;
  readonly #syscalls: Syscalls | null | undefined;
  #locks: FileLocks;
  static #zeros: Uint8Array | undefined;

  private constructor(
    filename: string,
    fd: number,
    size: number,
    isDevice: boolean,
    options: FileOptions,
  ) {
    this.filename = filename;
    this.#fd = fd;
    this.resizable = !isDevice;
    this.#writable = options.writable;
    this.#cache = options.cache ?? 'writeback';
    this.#syscalls = options.syscalls;
    this.#size = size;
    this.#locks = new FileLocks(filename, fd, () => this.#calls());
  }

  static async open(filename: string, options: FileOptions): Promise<FileStorage> {
    const isDevice = checkKind(filename, options.writable ? 'Could not open' : undefined);
    let fd: number | undefined;
    try {
      fd = fs.openSync(filename, openFlags(options.writable, options.cache));
      const size = isDevice ? await deviceSize(fd, options) : fs.fstatSync(fd).size;
      return new FileStorage(filename, fd, size, isDevice, options);
    } catch (error) {
      if (fd !== undefined) fs.closeSync(fd);
      throw error instanceof ImageError ? error : openError('Could not open', filename, error);
    }
  }

  /** Creates a file, or takes one that exists; it is emptied once no other process uses it. */
  static async create(filename: string): Promise<FileStorage> {
    let fd: number | undefined;
    try {
      const exists = fs.existsSync(filename);
      if (exists && checkKind(filename, 'Could not create')) {
        return await FileStorage.open(filename, { writable: true });
      }
      fd = fs.openSync(filename, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o644);
      const storage = new FileStorage(filename, fd, fs.fstatSync(fd).size, false, {
        writable: true,
      });
      await storage.lock(['write', 'resize'], ['consistent read', 'write unchanged']);
      await storage.resize(0);
      return storage;
    } catch (error) {
      if (fd !== undefined) fs.closeSync(fd);
      throw error instanceof ImageError ? error : openError('Could not create', filename, error);
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

  get fd(): number {
    return this.#fd;
  }

  async #calls(): Promise<Syscalls | null> {
    return this.#syscalls === undefined ? loadSyscalls() : this.#syscalls;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const inside = Math.max(0, Math.min(target.length, this.#size - offset));
    let done = 0;
    while (done < inside) {
      const count = await this.#transfer('read from', fs.read, target, done, inside - done, offset);
      // Somebody else has cut the file: what is missing reads as zeros, like everything past it.
      if (count === 0) break;
      done += count;
    }
    target.fill(0, done);
  }

  async write(offset: number, source: Uint8Array, _kind: WriteKind): Promise<void> {
    this.#checkWrite(offset, source.length);
    for (let done = 0; done < source.length; ) {
      const rest = source.length - done;
      const count = await this.#transfer('write to', fs.write, source, done, rest, offset);
      if (count === 0) {
        throw ioError('Could not write to', this.filename, offset, errnoException('write', 'EIO'));
      }
      done += count;
    }
    this.#size = Math.max(this.#size, offset + source.length);
  }

  /** One pread or pwrite of part of a buffer, repeated where a signal came between. */
  async #transfer(
    doing: string,
    call: typeof fs.read | typeof fs.write,
    buffer: Uint8Array,
    from: number,
    length: number,
    offset: number,
  ): Promise<number> {
    for (let tries = 0; ; tries++) {
      const outcome = await new Promise<number | NodeJS.ErrnoException>((resolve) => {
        const transfer = call as typeof fs.read;
        transfer(this.#fd, buffer, from, length, offset + from, (error, count) =>
          resolve(error ?? count),
        );
      });
      if (typeof outcome === 'number') return outcome;
      if (!TRANSIENT.has(outcome.code ?? '') || tries === MAX_RETRIES) {
        throw ioError(`Could not ${doing}`, this.filename, offset + from, outcome);
      }
    }
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

  async zero(offset: number, length: number, kind: WriteKind): Promise<void> {
    this.#checkWrite(offset, length);
    const inside = Math.max(0, Math.min(length, this.#size - offset));
    if (inside > 0 && !(await this.#fallocateZeros(offset, inside))) {
      FileStorage.#zeros ??= new Uint8Array(ZEROS);
      for (let done = 0; done < inside; done += ZEROS) {
        const piece = FileStorage.#zeros.subarray(0, Math.min(ZEROS, inside - done));
        await this.write(offset + done, piece, kind);
      }
    }
    if (offset + length > this.#size) await this.resize(offset + length);
  }

  async #fallocateZeros(offset: number, length: number): Promise<boolean> {
    // A hole takes no space; where the file system has none, zeroed extents are next.
    return (
      (await this.#fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)) ||
      (await this.#fallocate(FALLOC_FL_ZERO_RANGE, offset, length))
    );
  }

  async #fallocate(mode: number, offset: number, length: number): Promise<boolean> {
    const calls = await this.#calls();
    if (calls === null) return false;
    try {
      calls.fallocate(this.#fd, mode, offset, length);
      return true;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? '';
      if (code === 'EIO' || code === 'ENOSPC') {
        throw ioError('Could not zero', this.filename, offset, error);
      }
      return false;
    }
  }

  async discard(offset: number, length: number): Promise<void> {
    const inside = Math.min(length, this.#size - offset);
    if (inside <= 0) return;
    await this.#fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, inside);
  }

  async copyFrom(source: Storage, from: number, to: number, length: number): Promise<number> {
    this.#checkWrite(to, length);
    const calls = await this.#calls();
    if (calls === null || !(source instanceof FileStorage)) return 0;
    const inside = Math.min(length, source.size - from);
    let done = 0;
    while (done < inside) {
      const count = Math.min(COPY_CALL, inside - done);
      try {
        const copied = await calls.copyFileRange(
          source.fd,
          from + done,
          this.#fd,
          to + done,
          count,
        );
        if (copied === 0) break;
        done += copied;
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code ?? '';
        if (code === 'EINTR') continue;
        if (!CANT_COPY.has(code))
          throw ioError('Could not copy to', this.filename, to + done, error);
        break;
      }
    }
    this.#size = Math.max(this.#size, done > 0 ? to + done : 0);
    return Math.max(0, done);
  }

  async extentAt(offset: number): Promise<StorageExtent> {
    const calls = await this.#calls();
    if (calls === null || !this.resizable) return { data: true, end: this.#size };
    try {
      const data = calls.seekData(this.#fd, offset);
      if (data === undefined) return { data: false, end: this.#size };
      if (data > offset) return { data: false, end: Math.min(data, this.#size) };
      return {
        data: true,
        end: Math.min(calls.seekHole(this.#fd, offset) ?? this.#size, this.#size),
      };
    } catch {
      // No such call on this file system: all of it may be data.
      return { data: true, end: this.#size };
    }
  }

  async allocatedBytes(): Promise<number> {
    return this.resizable ? fs.fstatSync(this.#fd).blocks * 512 : this.#size;
  }

  async flush(): Promise<void> {
    if (this.#cache === 'unsafe') return;
    await new Promise<void>((resolve, reject) => {
      fs.fdatasync(this.#fd, (error) =>
        error ? reject(ioError('Could not flush', this.filename, undefined, error)) : resolve(),
      );
    });
  }

  async resize(size: number): Promise<void> {
    if (!this.resizable) {
      throw new ImageError('invalid', `'${this.filename}' is a device: its size is fixed`);
    }
    this.#checkWrite(0, 0);
    try {
      fs.ftruncateSync(this.#fd, size);
    } catch (error) {
      throw ioError('Could not resize', this.filename, size, error);
    }
    this.#size = size;
  }

  async lock(use: readonly Permission[], share: readonly Permission[]): Promise<void> {
    await this.#locks.change(use, share);
  }

  async makeWritable(use: readonly Permission[], share: readonly Permission[]): Promise<void> {
    if (this.#writable) return this.lock(use, share);
    let fd: number;
    try {
      fd = fs.openSync(this.filename, openFlags(true, this.#cache));
    } catch (error) {
      throw openError('Could not reopen', this.filename, error);
    }
    try {
      this.#locks = await this.#locks.handOver(fd, use, share);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
    fs.closeSync(this.#fd);
    this.#fd = fd;
    this.#writable = true;
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    fs.closeSync(this.#fd);
  }
}

/** A device's length is not in its stat: the kernel's table has it, in sectors of 512 bytes. */
async function deviceSize(fd: number, options: FileOptions): Promise<number> {
  const { major, minor } = deviceNumber(fs.fstatSync(fd).rdev);
  try {
    return Number(fs.readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'utf8')) * SECTOR;
  } catch (error) {
    const calls = options.syscalls === undefined ? await loadSyscalls() : options.syscalls;
    if (calls !== null) return calls.blockDeviceSize(fd);
    throw error;
  }
}

function openFlags(writable: boolean, cache: CacheMode | undefined): number {
  const { O_RDWR, O_RDONLY, O_DSYNC, O_NONBLOCK } = fs.constants;
  const through = cache === 'writethrough' || cache === 'directsync';
  return (writable ? O_RDWR : O_RDONLY) | (through ? O_DSYNC : 0) | O_NONBLOCK;
}

/**
 * True for a block device, false for a regular file; anything else is refused before opening.
 * `writing`: the words for a directory, which the system refuses to open for writing.
 */
function checkKind(filename: string, writing: string | undefined): boolean {
  let stat: fs.Stats | undefined;
  try {
    stat = fs.statSync(filename, { throwIfNoEntry: false });
  } catch (error) {
    throw openError(writing ?? 'Could not open', filename, error);
  }
  if (stat === undefined || stat.isFile()) return false;
  if (stat.isBlockDevice()) return true;
  if (stat.isDirectory() && writing !== undefined) {
    throw openError(writing, filename, errnoException('open', 'EISDIR'));
  }
  throw new ImageError('invalid', `'file' driver requires '${filename}' to be a regular file`);
}
