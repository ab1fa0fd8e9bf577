// What the kernel can do to ranges of open files without moving bytes through us. Each function has
// an answer for "the machine can't": its caller then does it by reading and writing.

import * as fs from 'node:fs';
import { alignUp, MIB } from '../units.ts';
import { pathOf } from './file-open.ts';
import type { StorageExtent } from './storage.ts';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  type Syscalls,
} from './syscalls.ts';

/** One copy_file_range call: long enough to be worth it, short enough to stop in between. */
const COPY_CALL = 128 * MIB;
const MAX_INTERRUPTIONS = 100;
/** Errors of the disk itself; any other one says that the call is not to be had here. */
const REAL_ERRORS = new Set(['EIO', 'ENOSPC', 'EDQUOT', 'EFBIG', 'ENOMEM']);

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? '';
}

/** False where the kernel can't, also where it only would take (unaligned ranges of devices). */
function fallocate(
  calls: Syscalls,
  fd: number,
  mode: number,
  offset: number,
  length: number,
): boolean {
  try {
    calls.fallocate(fd, mode, offset, length);
    return true;
  } catch (error) {
    if (REAL_ERRORS.has(codeOf(error))) throw error;
    return false;
  }
}

/** Makes a range inside the file, or the device, read as zeros. Throws on errors of the disk. */
export function zeroRange(calls: Syscalls, fd: number, offset: number, length: number): boolean {
  // A hole takes no space; where the file system has none, zeroed extents are next.
  return (
    fallocate(calls, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) ||
    fallocate(calls, fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length)
  );
}

/** Takes space for the range, growing the file. False where that has to be done by writing. */
export function reserveRange(calls: Syscalls, fd: number, offset: number, length: number): boolean {
  return fallocate(calls, fd, 0, offset, length);
}

/** Gives the range back to the file system; if that fails nothing is lost but the space. */
export function releaseRange(calls: Syscalls, fd: number, offset: number, length: number): void {
  try {
    calls.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
  } catch {
    // A hint has no errors: whoever needs the range later writes it, and hears of them then.
  }
}

/** True where ranges can be given back: tried behind the end, where there is nothing to lose. */
export function canRelease(calls: Syscalls, fd: number, end: number): boolean {
  try {
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return fallocate(calls, fd, mode, alignUp(end, MIB), MIB);
  } catch {
    return false;
  }
}

/**
 * Copies between two files, or within one, from the start of the range until the kernel can't go on
 * or the source ends. `reached` hears the bytes copied so far, also when a later part fails.
 */
export async function copyRange(
  calls: Syscalls,
  source: { readonly fd: number; readonly offset: number },
  target: { readonly fd: number; readonly offset: number },
  length: number,
  reached: (done: number) => void,
): Promise<void> {
  let interruptions = 0;
  for (let done = 0; done < length; ) {
    let copied: number;
    try {
      copied = await calls.copyFileRange(
        source.fd,
        source.offset + done,
        target.fd,
        target.offset + done,
        Math.min(COPY_CALL, length - done),
      );
    } catch (error) {
      if (codeOf(error) === 'EINTR' && interruptions++ < MAX_INTERRUPTIONS) continue;
      if (REAL_ERRORS.has(codeOf(error))) throw error;
      return;
    }
    if (copied === 0) return;
    done += copied;
    reached(done);
  }
}

/** Types of file systems that can (statfs(2)): XFS, btrfs, bcachefs, OCFS2. */
const SHARING = new Set([0x5846_5342, 0x9123_683e, 0xca45_1a4e, 0x7461_636f]);

/** Whether files lie on one file system of a kind that can share their extents. */
export function sharesExtents(
  a: { readonly filename: string },
  b: { readonly filename: string },
): boolean {
  try {
    const [mine, theirs] = [a, b].map(({ filename }) => fs.statSync(pathOf(filename)));
    if (mine?.dev !== theirs?.dev) return false;
    return SHARING.has(fs.statfsSync(pathOf(a.filename)).type >>> 0);
  } catch {
    return false;
  }
}

/**
 * Has the range share the extents of another file's; waits for it, as no bytes move. False where the
 * kernel or the file system can't, or not at these offsets. Throws on errors of the disk.
 */
export function cloneRange(
  calls: Syscalls,
  source: { readonly fd: number; readonly offset: number },
  target: { readonly fd: number; readonly offset: number },
  length: number,
): boolean {
  for (let interruptions = 0; ; interruptions++) {
    try {
      calls.cloneRange(source.fd, source.offset, target.fd, target.offset, length);
      return true;
    } catch (error) {
      if (codeOf(error) === 'EINTR' && interruptions < MAX_INTERRUPTIONS) continue;
      if (REAL_ERRORS.has(codeOf(error))) throw error;
      return false;
    }
  }
}

/** Data or hole at `offset`, cut at `size`; data to the end where the file system can't tell. */
export function extentOf(calls: Syscalls, fd: number, offset: number, size: number): StorageExtent {
  try {
    const data = calls.seekData(fd, offset) ?? size;
    if (data > offset) return { data: false, end: Math.min(data, size) };
    return { data: true, end: Math.min(calls.seekHole(fd, offset) ?? size, size) };
  } catch {
    return { data: true, end: size };
  }
}
