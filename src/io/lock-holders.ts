// Which processes hold a lock on a byte of a file, as far as /proc tells: the kernel names no process
// for locks of open files, but shows them with each descriptor.

import * as fs from 'node:fs';
import type { LockHolder } from '../errors.ts';
import { deviceNumber } from './file-open.ts';

/** Descriptors that are looked at, at most: this is only about a better message. */
const MAX_DESCRIPTORS = 20_000;

/** A lock of an open file or of a process; `file` is device and inode in the kernel's words. */
export interface KernelLock {
  readonly file: string;
  readonly first: number;
  readonly last: number;
}

/** Lines of /proc/locks, or those of fdinfo, which begin with `lock:`. */
export function parseLocks(text: string): readonly KernelLock[] {
  return text
    .split('\n')
    .map((line) =>
      line
        .replace(/^lock:/, '')
        .trim()
        .split(/\s+/),
    )
    .filter(([, kind]) => kind === 'OFDLCK' || kind === 'POSIX')
    .map(([, , , , , file = '', first, last]) => ({
      file,
      first: Number(first),
      last: last === 'EOF' ? Number.POSITIVE_INFINITY : Number(last),
    }));
}

export function covers({ first, last }: KernelLock, byte: number): boolean {
  return first <= byte && byte <= last;
}

/** The file's name in lists of locks. */
export function kernelName(fd: number): string {
  // Where we hold a lock ourselves the kernel says it; some file systems tell another device in stat.
  const own = locksOf('self', fd)[0];
  if (own !== undefined) return own.file;
  // An inode may be past 2^53 on XFS.
  const { dev, ino } = fs.fstatSync(fd, { bigint: true });
  const { major, minor } = deviceNumber(Number(dev));
  const hex = (value: number) => value.toString(16).padStart(2, '0');
  return `${hex(major)}:${hex(minor)}:${ino}`;
}

/** Those that hold `byte` of the file, without ourselves through `fd`; none where nobody can tell. */
export function lockHolders(fd: number, byte: number): readonly LockHolder[] {
  if (process.platform !== 'linux') return [];
  const file = kernelName(fd);
  const holders: LockHolder[] = [];
  let left = MAX_DESCRIPTORS;
  for (const pid of list('/proc').filter((name) => /^\d+$/.test(name))) {
    const mine = Number(pid) === process.pid;
    for (const other of list(`/proc/${pid}/fdinfo`)) {
      if (left-- === 0) return holders;
      if (mine && Number(other) === fd) continue;
      const locks = locksOf(pid, Number(other));
      if (!locks.some((lock) => lock.file === file && covers(lock, byte))) continue;
      holders.push({ pid: Number(pid), name: nameOf(pid) });
      break;
    }
  }
  return holders;
}

function locksOf(pid: string, fd: number): readonly KernelLock[] {
  const text = read(`/proc/${pid}/fdinfo/${fd}`);
  if (!text.includes('lock:')) return [];
  return parseLocks(
    text
      .split('\n')
      .filter((line) => line.startsWith('lock:'))
      .join('\n'),
  );
}

/** Whatever a process calls itself must not disturb a terminal. */
function nameOf(pid: string): string {
  return read(`/proc/${pid}/comm`)
    .trim()
    .replace(/[^\x20-\x7e]/g, '?');
}

/** Processes end while we look, and not all of them are ours to see. */
function read(file: string): string {
  try {
    return fs.readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}

function list(directory: string): readonly string[] {
  try {
    return fs.readdirSync(directory);
  } catch {
    return [];
  }
}
