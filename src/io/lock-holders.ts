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
  // Where we hold a lock ourselves the kernel says it.
  const own = locksOf('self', fd)[0];
  if (own !== undefined) return own.file;
  // An inode may be past 2^53 on XFS.
  const { dev, ino } = fs.fstatSync(fd, { bigint: true });
  const { major, minor } = mountedDevice(fd) ?? deviceNumber(Number(dev));
  const hex = (value: number) => value.toString(16).padStart(2, '0');
  return `${hex(major)}:${hex(minor)}:${ino}`;
}

/** That of the file system: in stat, btrfs tells another one for each of its subvolumes. */
function mountedDevice(fd: number): ReturnType<typeof deviceNumber> | undefined {
  const mount = /^mnt_id:\s*(\d+)$/m.exec(read(`/proc/self/fdinfo/${fd}`))?.[1];
  const line = new RegExp(`^${mount} \\d+ (\\d+):(\\d+) `, 'm').exec(read('/proc/self/mountinfo'));
  return line === null ? undefined : { major: Number(line[1]), minor: Number(line[2]) };
}

export interface LockPlace {
  /** Ours, which is none of others. */
  readonly fd: number;
  /** See `kernelName`. */
  readonly file: string;
  readonly byte: number;
}

/** Those that hold the byte of the file; none where nobody can tell. */
export function lockHolders(place: LockPlace): readonly LockHolder[] {
  if (process.platform !== 'linux') return [];
  const holders: LockHolder[] = [];
  let left = MAX_DESCRIPTORS;
  for (const pid of list('/proc').filter((name) => /^\d+$/.test(name))) {
    const descriptors = list(`/proc/${pid}/fd`).slice(0, left);
    left -= descriptors.length;
    if (descriptors.some((fd) => holds(pid, fd, place))) {
      holders.push({ pid: Number(pid), name: nameOf(pid) });
    }
  }
  return holders;
}

function holds(pid: string, fd: string, { fd: own, file, byte }: LockPlace): boolean {
  if (Number(fd) === own && Number(pid) === process.pid) return false;
  // Pipes, sockets and the like are most of them, and reading about one takes longer than its name.
  if (!leadsTo(`/proc/${pid}/fd/${fd}`).startsWith('/')) return false;
  return locksOf(pid, Number(fd)).some((lock) => lock.file === file && covers(lock, byte));
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

function leadsTo(link: string): string {
  try {
    return fs.readlinkSync(link);
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
