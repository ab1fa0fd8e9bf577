// The few system calls that Node.js lacks. Loaded when first needed; where they can't be had, every
// caller has another way.

import { constants } from 'node:os';
import { type Koffi, loadKoffi } from './koffi.ts';
import { errnoException } from './system-error.ts';

export const FALLOC_FL_KEEP_SIZE = 0x01;
export const FALLOC_FL_PUNCH_HOLE = 0x02;
export const FALLOC_FL_ZERO_RANGE = 0x10;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const BLKGETSIZE64 = 0x80081272;
const FICLONERANGE = 0x4020940d;
const SYNC_FILE_RANGE_WRITE = 2;
/** Of glibc's malloc.h. */
const M_ARENA_MAX = -8;

export interface Syscalls {
  /** All of these throw a system error with its `code`, e.g. `EOPNOTSUPP`. */
  fallocate(fd: number, mode: number, offset: number, length: number): void;
  /** Start of the next data, or hole, at or after `offset`; undefined if there is none. */
  seekData(fd: number, offset: number): number | undefined;
  seekHole(fd: number, offset: number): number | undefined;
  /** Bytes copied; may be fewer than asked for. Runs on the thread pool. */
  copyFileRange(
    from: number,
    fromOffset: number,
    to: number,
    toOffset: number,
    length: number,
  ): Promise<number>;
  /** Has a range share the extents of another file's. */
  cloneRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): void;
  /** Begins to write a file's dirty pages out, on the thread pool; errors are told by its next sync. */
  startWriteback(fd: number): Promise<void>;
  blockDeviceSize(fd: number): number;
  /** Where bytes lie in memory; they stay there. */
  addressOf(bytes: Uint8Array): bigint;
  /** Shared open-file-description lock on one byte; false where somebody holds it exclusively. */
  lockShared(fd: number, byte: number): boolean;
  unlock(fd: number, byte: number): void;
  /** True where another open file holds any lock on the byte. */
  lockedByOthers(fd: number, byte: number): boolean;
  /**
   * Lets at most `count` threads have a heap of their own, each of which reserves 64 MiB of address
   * space; of use before the thread pool starts. A setting of the whole process: for programs, not
   * for a library. Does nothing where the C library knows no such setting.
   */
  limitArenas(count: number): void;
}

let loaded: Promise<Syscalls | null> | undefined;

/** The system calls; null where they can't be reached. */
export function loadSyscalls(): Promise<Syscalls | null> {
  loaded ??= tryLoad();
  return loaded;
}

async function tryLoad(): Promise<Syscalls | null> {
  const koffi = await loadKoffi();
  try {
    return koffi && bind(koffi);
  } catch {
    // Not with this C library: the callers' other ways are complete.
    return null;
  }
}

type KoffiFunction = ReturnType<ReturnType<Koffi['load']>['func']>;

function bind(koffi: Koffi): Syscalls {
  const libc = koffi.load(null);
  const fallocate = libc.func('int fallocate64(int, int, int64_t, int64_t)');
  const lseek = libc.func('int64_t lseek64(int, int64_t, int)');
  const ioctl = libc.func('int ioctl(int, unsigned long, _Out_ uint64_t *)');
  const writeOut = libc.func('int sync_file_range(int, int64_t, int64_t, unsigned int)');
  const clone = libc.func('ioctl', 'int', ['int', 'unsigned long', 'const int64_t *']);
  const copy = libc.func(
    'int64_t copy_file_range(int, _Inout_ int64_t *, int, _Inout_ int64_t *, size_t, unsigned int)',
  );
  // Without a name: names are koffi's for the whole process, and we may be loaded twice (a bundle
  // beside the library).
  const flock64 = koffi.struct({
    l_type: 'int16_t',
    l_whence: 'int16_t',
    l_start: 'int64_t',
    l_len: 'int64_t',
    l_pid: 'int32_t',
  });
  const flockPointer = koffi.inout(koffi.pointer(flock64));
  const fcntl = libc.func('fcntl64', 'int', ['int', 'int', flockPointer]);
  const fail = (call: string): never => {
    throw errnoException(call, nameOf(koffi.errno()));
  };
  const seek = (fd: number, offset: number, whence: number): number | undefined => {
    const found = Number(lseek(fd, offset, whence));
    if (found >= 0) return found;
    return nameOf(koffi.errno()) === 'ENXIO' ? undefined : fail('lseek');
  };
  const lock = (fd: number, command: number, type: number, byte: number) => {
    const flock = { l_type: type, l_whence: 0, l_start: byte, l_len: 1, l_pid: 0 };
    return { result: fcntl(fd, command, flock) as number, type: flock.l_type };
  };
  return {
    fallocate(fd, mode, offset, length) {
      if (fallocate(fd, mode, offset, length) !== 0) fail('fallocate');
    },
    seekData: (fd, offset) => seek(fd, offset, SEEK_DATA),
    seekHole: (fd, offset) => seek(fd, offset, SEEK_HOLE),
    copyFileRange(from, fromOffset, to, toOffset, length) {
      return new Promise((resolve, reject) => {
        // The callback sees the errno of the thread that made the call, if it asks at once.
        const done = (error: unknown, result: unknown): void => {
          if (error) reject(error);
          else if (Number(result) >= 0) resolve(Number(result));
          else reject(errnoException('copy_file_range', nameOf(koffi.errno())));
        };
        copy.async(from, [fromOffset], to, [toOffset], length, 0, done);
      });
    },
    cloneRange(from, fromOffset, to, toOffset, length) {
      if (clone(to, FICLONERANGE, [from, fromOffset, length, toOffset]) !== 0) fail('ioctl');
    },
    startWriteback(fd) {
      // From the start to the end of the file.
      return new Promise((resolve) => {
        writeOut.async(fd, 0, 0, SYNC_FILE_RANGE_WRITE, () => resolve());
      });
    },
    blockDeviceSize(fd) {
      const size = [0];
      if (ioctl(fd, BLKGETSIZE64, size) !== 0) fail('ioctl');
      return Number(size[0]);
    },
    addressOf: (bytes) => koffi.address(bytes),
    lockShared(fd, byte) {
      if (lock(fd, F_OFD_SETLK, F_RDLCK, byte).result === 0) return true;
      const errno = nameOf(koffi.errno());
      return errno === 'EAGAIN' || errno === 'EACCES' ? false : fail('fcntl');
    },
    unlock(fd, byte) {
      if (lock(fd, F_OFD_SETLK, F_UNLCK, byte).result !== 0) fail('fcntl');
    },
    lockedByOthers(fd, byte) {
      const { result, type } = lock(fd, F_OFD_GETLK, F_WRLCK, byte);
      if (result !== 0) fail('fcntl');
      return type !== F_UNLCK;
    },
    limitArenas(count) {
      arenaLimiter(libc)?.(M_ARENA_MAX, count);
    },
  };
}

function arenaLimiter(libc: ReturnType<Koffi['load']>): KoffiFunction | undefined {
  try {
    return libc.func('int mallopt(int, int)');
  } catch {
    return undefined; // Other C libraries than glibc have none.
  }
}

function nameOf(errno: number): string {
  const entry = Object.entries(constants.errno).find(([, value]) => value === errno);
  return entry?.[0] ?? `errno ${errno}`;
}
