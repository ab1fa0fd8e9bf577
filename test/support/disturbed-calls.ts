// The calls of this process's kernel, made to fail, to be interrupted, or to do less than was asked for.

import { createRequire, syncBuiltinESMExports } from 'node:module';
import { loadSyscalls, type Syscalls } from '../../src/io/syscalls.ts';

const fs = createRequire(import.meta.url)('node:fs') as typeof import('node:fs');
const { read, readSync, write, fdatasync, ftruncateSync, openSync } = fs;
const real = { read, readSync, write, fdatasync, ftruncateSync, openSync };

/** Kinds of calls. */
export const CALLS = [
  'open',
  'read',
  'write',
  'sync',
  'truncate',
  'copy',
  'punch',
  'lock',
] as const;
export type Call = (typeof CALLS)[number];
/** What becomes of one: `short` does a part of it. */
export type Fate = 'EINTR' | 'EIO' | 'ENOSPC' | 'short' | undefined;
type Decide = (call: Call) => Fate;

type Callback = (error: Error | null, count: number) => void;
type Transfer = (
  fd: number,
  buffer: Uint8Array,
  from: number,
  length: number,
  position: number,
  callback: Callback,
) => void;

function failure(fate: Exclude<Fate, 'short' | undefined>): NodeJS.ErrnoException {
  return Object.assign(new Error(`made to fail: ${fate}`), { code: fate });
}

let calls = 0;
const SHORTEST = 700;
const part = (length: number) => Math.min(length, 1 + ((calls++ * 37) % SHORTEST));

/** From here on, until `restore`, `decide` is asked for each call. */
export function disturb(decide: Decide): void {
  calls = 0;
  const transfer =
    (kind: Call, call: Transfer): Transfer =>
    (fd, buffer, from, length, position, callback) => {
      // Only positioned calls are ours.
      const fate = typeof position === 'number' ? decide(kind) : undefined;
      if (fate === undefined) call(fd, buffer, from, length, position, callback);
      else if (fate === 'short') call(fd, buffer, from, part(length), position, callback);
      else setImmediate(() => callback(failure(fate), 0));
    };
  const waiting =
    <A extends unknown[], R>(kind: Call, call: (...args: A) => R) =>
    (...args: A): R => {
      const fate = decide(kind);
      if (fate !== undefined && fate !== 'short') throw failure(fate);
      return call(...args);
    };
  Object.assign(fs, {
    read: transfer('read', real.read as Transfer),
    write: transfer('write', real.write as Transfer),
    fdatasync: (fd: number, callback: (error: Error | null) => void) => {
      const fate = decide('sync');
      if (fate === undefined || fate === 'short') real.fdatasync(fd, callback);
      else setImmediate(() => callback(failure(fate)));
    },
    ftruncateSync: waiting('truncate', real.ftruncateSync),
    openSync: waiting('open', real.openSync),
  });
  syncBuiltinESMExports();
}

export function restore(): void {
  Object.assign(fs, real);
  syncBuiltinESMExports();
}

/** The system calls that Node.js lacks, in the same way. */
export async function disturbedSyscalls(decide: Decide): Promise<Syscalls> {
  const syscalls = await loadSyscalls();
  if (syscalls === null) throw new Error('these tests need the system calls: is koffi installed?');
  return {
    ...syscalls,
    copyFileRange(from, fromOffset, to, toOffset, length) {
      const fate = decide('copy');
      const some = fate === 'short' ? part(length) : length;
      if (fate !== undefined && fate !== 'short') return Promise.reject(failure(fate));
      return syscalls.copyFileRange(from, fromOffset, to, toOffset, some);
    },
    fallocate(...args) {
      const fate = decide('punch');
      if (fate !== undefined && fate !== 'short') throw failure(fate);
      syscalls.fallocate(...args);
    },
    lockShared(fd, byte) {
      const fate = decide('lock');
      if (fate !== undefined && fate !== 'short') throw failure(fate);
      return syscalls.lockShared(fd, byte);
    },
  };
}
