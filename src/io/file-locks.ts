// Takes and drops the byte locks of locks.ts on an open file.
//
// Without the system call it looks whether another process holds conflicting ones (/proc/locks),
// and says once that it can't keep others out.

import * as fs from 'node:fs';
import { ImageError } from '../errors.ts';
import { byteLocks, type Permission } from './locks.ts';
import type { Syscalls } from './syscalls.ts';

let warned = false;

export class FileLocks {
  readonly #filename: string;
  readonly #fd: number;
  readonly #syscalls: () => Promise<Syscalls | null>;
  #held: readonly number[] = [];

  constructor(filename: string, fd: number, syscalls: () => Promise<Syscalls | null>) {
    this.#filename = filename;
    this.#fd = fd;
    this.#syscalls = syscalls;
  }

  /** New locks are taken and probed before old ones are dropped. */
  async change(use: readonly Permission[], share: readonly Permission[]): Promise<void> {
    const { hold, probe } = byteLocks(use, share);
    const calls = await this.#syscalls();
    if (calls === null) {
      this.#probeOnly(probe);
      return;
    }
    this.#take(calls, hold);
    try {
      this.#probe(calls, probe);
    } catch (error) {
      for (const byte of hold) if (!this.#held.includes(byte)) calls.unlock(this.#fd, byte);
      throw error;
    }
    for (const byte of this.#held) if (!hold.includes(byte)) calls.unlock(this.#fd, byte);
    this.#held = hold;
  }

  /**
   * The same file by another descriptor `fd`, with other permissions: it holds its locks before
   * ours are dropped, and probes afterwards. On a conflict ours are back when it throws.
   */
  async handOver(
    fd: number,
    use: readonly Permission[],
    share: readonly Permission[],
  ): Promise<FileLocks> {
    const next = new FileLocks(this.#filename, fd, this.#syscalls);
    const calls = await this.#syscalls();
    if (calls === null) return next;
    const { hold, probe } = byteLocks(use, share);
    next.#take(calls, hold);
    next.#held = hold;
    for (const byte of this.#held) calls.unlock(this.#fd, byte);
    try {
      next.#probe(calls, probe);
    } catch (error) {
      for (const byte of this.#held) calls.lockShared(this.#fd, byte);
      throw error;
    }
    this.#held = [];
    return next;
  }

  #take(calls: Syscalls, hold: readonly number[]): void {
    for (const byte of hold) {
      if (this.#held.includes(byte)) continue;
      if (!calls.lockShared(this.#fd, byte)) throw this.#busy(`Failed to lock byte ${byte}`);
    }
  }

  #probe(
    calls: Syscalls,
    probe: readonly { readonly byte: number; readonly conflict: string }[],
  ): void {
    for (const { byte, conflict } of probe) {
      if (calls.lockedByOthers(this.#fd, byte)) throw this.#busy(conflict);
    }
  }

  #probeOnly(probe: readonly { readonly byte: number; readonly conflict: string }[]): void {
    if (process.platform !== 'linux') return;
    const locked = lockedBytes(this.#fd);
    for (const { byte, conflict } of probe) {
      if (locked.some(({ first, last }) => first <= byte && byte <= last)) {
        throw this.#busy(conflict);
      }
    }
    if (warned) return;
    warned = true;
    process.stderr.write(
      'qimg-ts: warning: image locks can not be taken here (koffi is missing): ' +
        'another process can not be kept from using the same images\n',
    );
  }

  #busy(conflict: string): ImageError {
    return new ImageError('busy', conflict, {
      errno: 'EAGAIN',
      hint: `Is another process using the image [${this.#filename}]?`,
    });
  }
}

/** Linux packs 12 bits of the major and 20 of the minor number into a device number. */
export function deviceNumber(dev: number): { readonly major: number; readonly minor: number } {
  return { major: (dev >>> 8) & 0xfff, minor: (dev & 0xff) | ((dev >>> 12) & 0xfff00) };
}

/** Byte ranges of open-file-description locks on the file, by anybody. */
function lockedBytes(fd: number): { first: number; last: number }[] {
  const { dev, ino } = fs.fstatSync(fd);
  const { major, minor } = deviceNumber(dev);
  const hex = (value: number) => value.toString(16).padStart(2, '0');
  const wanted = `${hex(major)}:${hex(minor)}:${ino}`;
  let text: string;
  try {
    text = fs.readFileSync('/proc/locks', 'utf8');
  } catch {
    return [];
  }
  return text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((words) => words[1] === 'OFDLCK' && words[5] === wanted)
    .map((words) => ({
      first: Number(words[6]),
      last: words[7] === 'EOF' ? Number.POSITIVE_INFINITY : Number(words[7]),
    }));
}
