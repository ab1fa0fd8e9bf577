// A kernel that reads and writes less than it was asked to, and is interrupted all the time: nothing of
// that is seen above the files. Where it never gets anywhere, that is an error with file and offset.

import { createRequire, syncBuiltinESMExports } from 'node:module';
import { expect, onTestFinished, test } from 'vitest';
import { commit } from '../../src/commit/commit.ts';
import type { Host } from '../../src/io/host.ts';
import { createNodeHost } from '../../src/io/node-host.ts';
import { loadSyscalls, type Syscalls } from '../../src/io/syscalls.ts';
import { Images } from '../support/images.ts';
import { randomFrom } from '../support/power-cut.ts';
import { checkClean, compare } from '../support/qemu.ts';

const fs = createRequire(import.meta.url)('node:fs') as typeof import('node:fs');
const { read, write, fdatasync, ftruncateSync, openSync } = fs;
const real = { read, write, fdatasync, ftruncateSync, openSync };
const interrupted = (): NodeJS.ErrnoException =>
  Object.assign(new Error('interrupted'), { code: 'EINTR' });

type Callback = (error: Error | null, count: number) => void;
type Transfer = (
  fd: number,
  buffer: Uint8Array,
  from: number,
  length: number,
  position: number,
  callback: Callback,
) => void;

/** From here on; `isInterrupted` is asked for each call. */
function disturb(isInterrupted: () => boolean, shortest = 700): void {
  let calls = 0;
  const part = (length: number) => Math.min(length, 1 + ((calls++ * 37) % shortest));
  const short =
    (call: Transfer): Transfer =>
    (fd, buffer, from, length, position, callback) => {
      // Only positioned calls are ours.
      if (typeof position !== 'number') call(fd, buffer, from, length, position, callback);
      else if (isInterrupted()) setImmediate(() => callback(interrupted(), 0));
      else call(fd, buffer, from, part(length), position, callback);
    };
  const sometimes =
    <A extends unknown[], R>(call: (...args: A) => R) =>
    (...args: A): R => {
      if (isInterrupted()) throw interrupted();
      return call(...args);
    };
  Object.assign(fs, {
    read: short(real.read as Transfer),
    write: short(real.write as Transfer),
    fdatasync: (fd: number, callback: (error: Error | null) => void) =>
      isInterrupted() ? setImmediate(() => callback(interrupted())) : real.fdatasync(fd, callback),
    ftruncateSync: sometimes(real.ftruncateSync),
    openSync: sometimes(real.openSync),
  });
  syncBuiltinESMExports();
}

function restore(): void {
  Object.assign(fs, real);
  syncBuiltinESMExports();
}

async function chain(): Promise<Images> {
  const images = new Images();
  await images.create('base.qcow2', '1M', { options: 'cluster_size=4k' });
  await images.io('base.qcow2', 'write -P 1 0 100k');
  await images.create('top.qcow2', '3M', { backing: 'base.qcow2' });
  await images.io('top.qcow2', 'write -P 2 50k 200k', 'write -z 100k 20k', 'write -P 3 2M 1k');
  await images.qemuImg('convert', '-O', 'raw', 'top.qcow2', 'before.raw');
  return images;
}

/** Copies in the kernel by halves; holes are never punched at the first attempt. */
async function hurried(isInterrupted: () => boolean): Promise<Syscalls> {
  const calls = await loadSyscalls();
  if (calls === null) throw new Error('these tests need the system calls: is koffi installed?');
  return {
    ...calls,
    copyFileRange(from, fromOffset, to, toOffset, length) {
      if (isInterrupted()) return Promise.reject(interrupted());
      return calls.copyFileRange(from, fromOffset, to, toOffset, Math.min(length, 3000));
    },
    fallocate(...args) {
      if (isInterrupted()) throw interrupted();
      calls.fallocate(...args);
    },
  };
}

/** In no order: taking turns, calls that run side by side could be the ones that it is about each time. */
function everyOther(): () => boolean {
  const random = randomFrom(1);
  return () => random(2) === 0;
}

const HOSTS: readonly (readonly [string, () => Promise<Host>])[] = [
  ['by reads and writes', async () => createNodeHost({ syscalls: null, warn: () => undefined })],
  ['in the kernel', async () => createNodeHost({ syscalls: await hurried(everyOther()) })],
  ['with reads that wait', async () => createNodeHost({ waits: 2 ** 16 })],
];

test.each(HOSTS)('a commit %s completes', async (_how, newHost) => {
  const images = await chain();
  const host = await newHost();
  onTestFinished(restore);
  disturb(everyOther());
  await commit(images.path('top.qcow2'), { host });
  restore();
  for (const name of ['base.qcow2', 'top.qcow2']) {
    await checkClean(images.path(name));
    await compare(images.path(name), 'qcow2', images.path('before.raw'), 'raw');
  }
});

test('calls that are interrupted for ever: an error with file and offset, the images as they were', async () => {
  const images = await chain();
  const host = createNodeHost({ syscalls: null, warn: () => undefined });
  let calls = 0;
  onTestFinished(restore);
  // Past opening and planning.
  disturb(() => calls++ > 300);
  await expect(commit(images.path('top.qcow2'), { host })).rejects.toMatchObject({
    message: 'Block job failed: Interrupted system call',
    hint: expect.stringMatching(/Could not \w+ (to|from) '.*\.qcow2' at offset \d+.* unchanged/),
  });
  restore();
  await compare(images.path('top.qcow2'), 'qcow2', images.path('before.raw'), 'raw');
  await commit(images.path('top.qcow2'), { host });
  await compare(images.path('base.qcow2'), 'qcow2', images.path('before.raw'), 'raw');
});
