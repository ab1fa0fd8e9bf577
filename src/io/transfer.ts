// Whole transfers between buffers and a file descriptor, by the callbacks of node:fs (the fastest
// way that Node.js has): short ones are continued, interrupted ones repeated.

import * as fs from 'node:fs';
import { errnoException, ioError } from './system-error.ts';

const TRANSIENT = new Set(['EINTR', 'EAGAIN']);
const MAX_RETRIES = 100;
/** After so many reads that waited, signals and timers get their turn. */
const AT_ONCE = 4096;

let readAtOnce = 0;

type Call = (
  fd: number,
  buffer: Uint8Array,
  from: number,
  length: number,
  position: number,
  callback: (error: NodeJS.ErrnoException | null, count: number) => void,
) => void;

/** How bytes go between memory and an open file. */
export interface Transfers {
  /** Fills `target`; resolves to the bytes read, fewer only where the file ends before. */
  read(fd: number, offset: number, target: Uint8Array): Promise<number>;
  /** Writes all of `source`; `reached` hears the end of each part, also when a later one fails. */
  write(
    fd: number,
    offset: number,
    source: Uint8Array,
    reached: (end: number) => void,
  ): Promise<void>;
}

/** Through the page cache. Reads of `waits` bytes at most wait instead of using the thread pool. */
export function cachedTransfers(filename: string, waits: number): Transfers {
  return {
    read(fd, offset, target) {
      const read = target.length <= waits ? readAllAtOnce : readAll;
      return read(fd, filename, offset, target);
    },
    write: (fd, offset, source, reached) => writeAll(fd, filename, offset, source, reached),
  };
}

async function readAll(
  fd: number,
  filename: string,
  offset: number,
  target: Uint8Array,
): Promise<number> {
  let done = 0;
  while (done < target.length) {
    const count = await readSome(fd, filename, offset + done, target.subarray(done));
    if (count === 0) break;
    done += count;
  }
  return done;
}

/** The same, waiting for it. */
async function readAllAtOnce(
  fd: number,
  filename: string,
  offset: number,
  target: Uint8Array,
): Promise<number> {
  let done = 0;
  if (++readAtOnce % AT_ONCE === 0) await new Promise((resolve) => setImmediate(resolve));
  try {
    while (done < target.length) {
      const rest = target.length - done;
      const count = repeated(() => fs.readSync(fd, target, done, rest, offset + done));
      if (count === 0) break;
      done += count;
    }
  } catch (error) {
    throw ioError('Could not read from', filename, offset + done, error);
  }
  return done;
}

export async function writeAll(
  fd: number,
  filename: string,
  offset: number,
  source: Uint8Array,
  reached: (end: number) => void,
): Promise<void> {
  let done = 0;
  while (done < source.length) {
    done += await writeSome(fd, filename, offset + done, source.subarray(done));
    reached(offset + done);
  }
}

/** One read: resolves to how many bytes came, 0 at the end of the file. */
export async function readSome(
  fd: number,
  filename: string,
  offset: number,
  target: Uint8Array,
): Promise<number> {
  return await once(fs.read, fd, target, offset).catch((error: unknown) => {
    throw ioError('Could not read from', filename, offset, error);
  });
}

/** One write: resolves to how many bytes went, at least 1. */
export async function writeSome(
  fd: number,
  filename: string,
  offset: number,
  source: Uint8Array,
): Promise<number> {
  const count = await once(fs.write, fd, source, offset).catch((error: unknown) => {
    throw ioError('Could not write to', filename, offset, error);
  });
  if (count > 0) return count;
  throw ioError('Could not write to', filename, offset, errnoException('write', 'EIO'));
}

/** A call that waits, again where it was only interrupted. */
export function repeated<T>(call: () => T): T {
  for (let tries = 0; ; tries++) {
    try {
      return call();
    } catch (error) {
      if (!isTransient(error) || tries === MAX_RETRIES) throw error;
    }
  }
}

function isTransient(error: unknown): boolean {
  return TRANSIENT.has((error as NodeJS.ErrnoException).code ?? '');
}

/** Resolves to what fdatasync(2) says: an interrupted one has not synced anything for sure. */
export async function syncData(fd: number): Promise<NodeJS.ErrnoException | null> {
  for (let tries = 0; ; tries++) {
    const error = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
      fs.fdatasync(fd, resolve);
    });
    if (error === null || error.code !== 'EINTR' || tries === MAX_RETRIES) return error;
  }
}

/** One pread or pwrite. */
async function once(call: Call, fd: number, buffer: Uint8Array, offset: number): Promise<number> {
  for (let tries = 0; ; tries++) {
    const outcome = await new Promise<number | NodeJS.ErrnoException>((resolve) => {
      call(fd, buffer, 0, buffer.length, offset, (error, count) => resolve(error ?? count));
    });
    if (typeof outcome === 'number') return outcome;
    if (!isTransient(outcome) || tries === MAX_RETRIES) throw outcome;
  }
}
