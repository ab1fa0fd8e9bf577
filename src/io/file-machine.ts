// How files are reached: by what the machine has, or as a test or a program wants it.

import type { Warn } from './file-locks.ts';
import { loadSyscalls, type Syscalls } from './syscalls.ts';

export interface FileMachine {
  /** For tests: undefined takes what the machine has, null does without. */
  readonly syscalls?: Syscalls | null | undefined;
  /** Hears, once, that other processes can't be kept out. Default: standard error. */
  readonly warn?: Warn | undefined;
  /**
   * Reads of so many bytes at most wait for the file instead of going through the thread pool, which
   * takes ten times as long: for programs that have nothing else to do meanwhile. Default 0.
   */
  readonly waits?: number;
}

/** Null where there are none. */
export function callsOf({ syscalls }: FileMachine): Promise<Syscalls | null> {
  return syscalls === undefined ? loadSyscalls() : Promise.resolve(syscalls);
}
