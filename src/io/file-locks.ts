// Takes and drops the byte locks of locks.ts on an open file.
//
// Without the system call it looks whether another process holds conflicting ones (/proc/locks),
// and says once that it can't keep others out.

import * as fs from 'node:fs';
import { ImageError } from '../errors.ts';
import { covers, type KernelLock, kernelName, lockHolders, parseLocks } from './lock-holders.ts';
import { type ByteLocks, byteLocks, type Permission } from './locks.ts';
import type { Syscalls } from './syscalls.ts';
import { ioError } from './system-error.ts';

export type Warn = (message: string) => void;

export const warnOnStderr: Warn = (message) => {
  process.stderr.write(`qimg-ts: warning: ${message}\n`);
};

const CANT_KEEP_OUT =
  'image locks can not be taken here (koffi is missing): ' +
  'another process can not be kept from using the same images';
/** Who has heard it. */
const warned = new WeakSet<Warn>();

export class FileLocks {
  readonly #filename: string;
  readonly #fd: number;
  readonly #syscalls: () => Promise<Syscalls | null>;
  readonly #warn: Warn;
  #held: readonly number[] = [];

  constructor(
    filename: string,
    fd: number,
    syscalls: () => Promise<Syscalls | null>,
    warn: Warn = warnOnStderr,
  ) {
    this.#filename = filename;
    this.#fd = fd;
    this.#syscalls = syscalls;
    this.#warn = warn;
  }

  /** New locks are taken and probed before old ones are dropped. */
  async change(use: readonly Permission[], share: readonly Permission[]): Promise<void> {
    const locks = byteLocks(use, share);
    const calls = await this.#syscalls();
    if (calls === null) return this.#lookOnly(locks);
    this.#attempt(calls, locks);
    this.#drop(
      calls,
      this.#held.filter((byte) => !locks.hold.includes(byte)),
    );
    this.#held = locks.hold;
  }

  /**
   * The locks for `fd`, another descriptor of the same file, which is to replace ours. Ours are held
   * until our descriptor is closed, so that nobody gets in between; on a conflict all is as before.
   */
  async handOver(
    fd: number,
    use: readonly Permission[],
    share: readonly Permission[],
  ): Promise<FileLocks> {
    const next = new FileLocks(this.#filename, fd, this.#syscalls, this.#warn);
    const locks = byteLocks(use, share);
    const calls = await this.#syscalls();
    if (calls === null) {
      this.#lookOnly(locks);
      return next;
    }
    // Probed from our descriptor, as locks that it holds are no conflict for it.
    const taken = this.#attempt(calls, locks);
    try {
      next.#take(calls, locks.hold);
    } catch (error) {
      this.#drop(calls, taken);
      throw error;
    }
    next.#held = locks.hold;
    this.#held = [...this.#held, ...taken];
    return next;
  }

  /** Takes what is not held yet and probes; returns what it took. On a conflict nothing is taken. */
  #attempt(calls: Syscalls, { hold, probe }: ByteLocks): readonly number[] {
    const taken = this.#take(
      calls,
      hold.filter((byte) => !this.#held.includes(byte)),
    );
    try {
      for (const { byte, conflict } of probe) {
        if (calls.lockedByOthers(this.#fd, byte)) throw this.#busy(conflict, byte);
      }
    } catch (error) {
      this.#drop(calls, taken);
      throw ioError('Could not lock', this.#filename, undefined, error);
    }
    return taken;
  }

  #take(calls: Syscalls, bytes: readonly number[]): readonly number[] {
    const taken: number[] = [];
    try {
      for (const byte of bytes) {
        if (!calls.lockShared(this.#fd, byte))
          throw this.#busy(`Failed to lock byte ${byte}`, byte);
        taken.push(byte);
      }
    } catch (error) {
      this.#drop(calls, taken);
      throw ioError('Could not lock', this.#filename, undefined, error);
    }
    return taken;
  }

  #drop(calls: Syscalls, bytes: readonly number[]): void {
    for (const byte of bytes) calls.unlock(this.#fd, byte);
  }

  #lookOnly({ probe, keepsOut }: ByteLocks): void {
    if (process.platform !== 'linux' || probe.length === 0) return;
    const locks = foundTwice(this.#fd);
    for (const { byte, conflict } of probe) {
      if (locks.some((lock) => covers(lock, byte))) throw this.#busy(conflict, byte);
    }
    if (!keepsOut || warned.has(this.#warn)) return;
    warned.add(this.#warn);
    this.#warn(CANT_KEEP_OUT);
  }

  #busy(conflict: string, byte: number): ImageError {
    const place = { fd: this.#fd, file: kernelName(this.#fd), byte };
    return new ImageError('busy', conflict, {
      errno: 'EAGAIN',
      hint: `Is another process using the image [${this.#filename}]?`,
      findHolders: () => lockHolders(place),
    });
  }
}

/**
 * Locks on the file, by anybody; none where that can't be read. The kernel gives its table in pieces:
 * an entry may be missing while others come and go, so it is read twice.
 */
function foundTwice(fd: number): readonly KernelLock[] {
  const name = kernelName(fd);
  try {
    return [1, 2]
      .flatMap(() => parseLocks(fs.readFileSync('/proc/locks', 'latin1')))
      .filter(({ file }) => file === name);
  } catch {
    return [];
  }
}
