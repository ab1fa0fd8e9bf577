// The kernel's lists of locks.

import { closeSync, fstatSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { covers, kernelName, parseLocks } from '../../src/io/lock-holders.ts';
import { loadSyscalls } from '../../src/io/syscalls.ts';
import { tempDir } from '../support/temp.ts';

const LOCKS = `1: FLOCK  ADVISORY  WRITE 512 fe:00:77 0 EOF
2: OFDLCK ADVISORY  READ -1 fe:00:1234 100 101
2: -> OFDLCK ADVISORY  WRITE -1 fe:00:1234 100 101
3: POSIX  ADVISORY  WRITE 99 00:1f:18446744073709551615 0 EOF
`;

test('locks of open files and of processes; what only waits, and flock, is none', () => {
  expect(parseLocks(LOCKS)).toEqual([
    { file: 'fe:00:1234', first: 100, last: 101 },
    { file: '00:1f:18446744073709551615', first: 0, last: Number.POSITIVE_INFINITY },
  ]);
});

test('lines of a descriptor', () => {
  expect(parseLocks('lock:\t1: OFDLCK ADVISORY  READ -1 fe:00:1234 201 201')).toEqual([
    { file: 'fe:00:1234', first: 201, last: 201 },
  ]);
});

test('from the first byte to the last', () => {
  const lock = { file: '', first: 100, last: 101 };
  expect([99, 100, 101, 102].map((byte) => covers(lock, byte))).toEqual([false, true, true, false]);
});

test('a file has the same name with and without a lock of ours', async () => {
  const calls = await loadSyscalls();
  const fd = openSync(join(tempDir(), 'file'), 'w+');
  onTestFinished(() => closeSync(fd));
  const before = kernelName(fd);
  calls?.lockShared(fd, 100);
  expect(kernelName(fd)).toBe(before);
  expect(before).toMatch(new RegExp(`^[0-9a-f]{2,}:[0-9a-f]{2,}:${fstatSync(fd).ino}$`));
});
