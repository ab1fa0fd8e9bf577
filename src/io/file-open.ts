// What a name stands for, and how it is opened: regular files and devices, nothing else.

import * as fs from 'node:fs';
import { errnoOf, ImageError } from '../errors.ts';
import { SECTOR } from '../units.ts';
import type { CacheMode } from './host.ts';
import { decodeName, encodeName, hasEscapes } from './name-bytes.ts';
import type { Syscalls } from './syscalls.ts';
import { errnoException, openError } from './system-error.ts';
import { repeated } from './transfer.ts';

/** As node:fs takes it: bytes, where the name is not valid UTF-8. */
export function pathOf(name: string): string | Buffer {
  return hasEscapes(name) ? Buffer.from(encodeName(name)) : name;
}

/** Linux packs 12 bits of the major and 20 of the minor number into the low half of a device. */
export function deviceNumber(dev: number): { readonly major: number; readonly minor: number } {
  return { major: (dev >>> 8) & 0xfff, minor: (dev & 0xff) | ((dev >>> 12) & 0xfff00) };
}

/** Writes are durable when they return. */
export function isThrough(cache: CacheMode): boolean {
  return cache === 'writethrough' || cache === 'directsync';
}

/** Reads and writes go around the page cache. */
export function isDirect(cache: CacheMode): boolean {
  return cache === 'none' || cache === 'directsync';
}

/** Node.js has it where the system does. */
export const O_DIRECT: number | undefined = fs.constants.O_DIRECT;

/** `direct`: around the page cache. */
export function openFlags(writable: boolean, cache: CacheMode, direct = false): number {
  const { O_RDWR, O_RDONLY, O_DSYNC, O_NONBLOCK } = fs.constants;
  // Shared locks need a descriptor that can read, so there is no opening for writing only.
  const access = writable ? O_RDWR : O_RDONLY;
  // O_NONBLOCK means nothing to files; should the name become a FIFO, opening it must not hang.
  const around = direct ? (O_DIRECT ?? 0) : 0;
  return access | (isThrough(cache) ? O_DSYNC : 0) | around | O_NONBLOCK;
}

/** Opens it; where the file system can't go around the page cache, that is said in QEMU's words. */
export function openDescriptor(filename: string, flags: number, doing: string): number {
  try {
    return repeated(() => fs.openSync(pathOf(filename), flags, 0o644));
  } catch (error) {
    const around = O_DIRECT !== undefined && (flags & O_DIRECT) !== 0;
    if (!around || errnoOf(error) !== 'EINVAL' || !opens(filename, flags & ~(O_DIRECT ?? 0)))
      throw error;
    const message = `${doing} '${filename}': filesystem does not support O_DIRECT`;
    throw new ImageError('unsupported', message, { cause: error, errno: 'EINVAL' });
  }
}

/** The file that `fd` is open to, once more. Throws system errors, and where the name leads elsewhere. */
export function reopenSame(filename: string, flags: number, fd: number): number {
  const again = openDescriptor(filename, flags, 'Could not reopen');
  if (sameFile(again, fd)) return again;
  fs.closeSync(again);
  throw new ImageError('io', `'${filename}' is another file now`);
}

function sameFile(a: number, b: number): boolean {
  const [one, other] = [fs.fstatSync(a, { bigint: true }), fs.fstatSync(b, { bigint: true })];
  return one.dev === other.dev && one.ino === other.ino;
}

function opens(filename: string, flags: number): boolean {
  try {
    fs.closeSync(fs.openSync(pathOf(filename), flags));
    return true;
  } catch {
    return false;
  }
}

/**
 * Refuses, before it is opened, what is neither a file nor a device: opening a FIFO has effects and
 * may hang. A directory is an error of the system where it is to be written, as open(2) has it.
 */
export function checkKind(filename: string, writing: boolean, doing: string): void {
  const access = writing ? 'open-for-writing' : 'open-for-reading';
  let stat: fs.Stats | undefined;
  try {
    stat = fs.statSync(pathOf(filename), { throwIfNoEntry: false });
  } catch (error) {
    throw openError(doing, filename, error, access);
  }
  if (stat === undefined || stat.isFile() || stat.isBlockDevice() || stat.isCharacterDevice()) {
    return;
  }
  if (stat.isSocket()) throw openError(doing, filename, errnoException('open', 'ENXIO'), access);
  if (stat.isDirectory() && writing) {
    throw openError(doing, filename, errnoException('open', 'EISDIR'), access);
  }
  throw new ImageError('invalid', `'file' driver requires '${filename}' to be a regular file`);
}

export interface OpenedKind {
  readonly size: number;
  /** Fixed length; not zeroed when it is reused. */
  readonly isDevice: boolean;
}

/** Length and kind of what was opened; a character device (/dev/null) has no bytes. */
export async function measure(
  fd: number,
  syscalls: () => Promise<Syscalls | null>,
): Promise<OpenedKind> {
  const stat = fs.fstatSync(fd);
  if (stat.isBlockDevice()) {
    return { size: await blockDeviceSize(fd, stat.rdev, syscalls), isDevice: true };
  }
  return stat.isFile() ? { size: stat.size, isDevice: false } : { size: 0, isDevice: true };
}

/** A device's length is not in its stat: the kernel's table has it, in sectors of 512 bytes. */
async function blockDeviceSize(
  fd: number,
  rdev: number,
  syscalls: () => Promise<Syscalls | null>,
): Promise<number> {
  const { major, minor } = deviceNumber(rdev);
  try {
    return Number(fs.readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'utf8')) * SECTOR;
  } catch (error) {
    const calls = await syscalls();
    if (calls !== null) return calls.blockDeviceSize(fd);
    throw error;
  }
}

/** Tells where an open file is by now, whatever its name was: on Linux, the kernel knows. */
export function checkOpened(fd: number, check: ((realPath: string) => void) | undefined): void {
  if (check === undefined || process.platform !== 'linux') return;
  let path: string;
  try {
    path = decodeName(fs.readlinkSync(`/proc/self/fd/${fd}`, 'buffer'));
  } catch {
    // No /proc: what was looked at before has to do.
    return;
  }
  check(path);
}
