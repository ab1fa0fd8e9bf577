// Image locks from outside: bytes of files that a test holds itself, and those that others hold.

import { closeSync, constants, openSync, readFileSync, statSync } from 'node:fs';
import { loadSyscalls } from '../../src/io/syscalls.ts';

/** Holds shared locks on bytes of a file while `work` runs. */
export async function whileHeld<T>(
  held: ReadonlyMap<string, readonly number[]>,
  work: () => Promise<T>,
): Promise<T> {
  const calls = await loadSyscalls();
  if (calls === null) throw new Error('no system calls here');
  const fds = [...held].map(([file, bytes]) => {
    const fd = openSync(file, constants.O_RDWR);
    for (const byte of bytes) calls.lockShared(fd, byte);
    return fd;
  });
  try {
    return await work();
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

/**
 * The bytes locked in the file, by anybody. The kernel's table is read in pieces: when others lock
 * their files meanwhile an entry may come twice or not at all, so two readings have to agree.
 */
export function lockedBytes(file: string): readonly number[] {
  let bytes = readLockedBytes(file);
  for (let tries = 0; tries < 20; tries++) {
    const again = readLockedBytes(file);
    if (again.join() === bytes.join()) break;
    bytes = again;
  }
  return bytes;
}

function readLockedBytes(file: string): number[] {
  const { ino } = statSync(file);
  const bytes = readFileSync('/proc/locks', 'utf8')
    .split('\n')
    .filter((line) => line.includes('OFDLCK') && line.includes(`:${ino} `))
    .flatMap((line) => {
      const [first = 0, last = 0] = line.trim().split(/\s+/).slice(-2).map(Number);
      return Array.from({ length: last - first + 1 }, (_, i) => first + i);
    });
  return [...new Set(bytes)].sort((a, b) => a - b);
}
