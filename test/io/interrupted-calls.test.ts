// A kernel that reads and writes less than it was asked to, and is interrupted all the time: nothing of
// that is seen above the files. Where it never gets anywhere, that is an error with file and offset.

import { expect, onTestFinished, test } from 'vitest';
import { commit } from '../../src/commit/commit.ts';
import type { Host } from '../../src/io/host.ts';
import { createNodeHost } from '../../src/io/node-host.ts';
import { disturb, disturbedSyscalls, restore } from '../support/disturbed-calls.ts';
import { Images } from '../support/images.ts';
import { randomFrom } from '../support/power-cut.ts';
import { checkClean, compare } from '../support/qemu.ts';

async function chain(): Promise<Images> {
  const images = new Images();
  await images.create('base.qcow2', '1M', { options: 'cluster_size=4k' });
  await images.io('base.qcow2', 'write -P 1 0 100k');
  await images.create('top.qcow2', '3M', { backing: 'base.qcow2' });
  await images.io('top.qcow2', 'write -P 2 50k 200k', 'write -z 100k 20k', 'write -P 3 2M 1k');
  await images.qemuImg('convert', '-O', 'raw', 'top.qcow2', 'before.raw');
  return images;
}

/** In no order: taking turns, calls that run side by side could be the ones that it is about each time. */
function everyOther(): () => 'EINTR' | 'short' {
  const random = randomFrom(1);
  return () => (random(2) === 0 ? 'EINTR' : 'short');
}

/** Locks are no calls that a kernel would interrupt. */
function hurried() {
  const fate = everyOther();
  return disturbedSyscalls((call) => (call === 'lock' ? undefined : fate()));
}

const HOSTS: readonly (readonly [string, () => Promise<Host>])[] = [
  ['by reads and writes', async () => createNodeHost({ syscalls: null, warn: () => undefined })],
  ['in the kernel', async () => createNodeHost({ syscalls: await hurried() })],
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
  disturb(() => (calls++ > 300 ? 'EINTR' : 'short'));
  await expect(commit(images.path('top.qcow2'), { host })).rejects.toMatchObject({
    message: 'Block job failed: Interrupted system call',
    hint: expect.stringMatching(/Could not \w+ (to|from) '.*\.qcow2' at offset \d+.* unchanged/),
  });
  restore();
  await compare(images.path('top.qcow2'), 'qcow2', images.path('before.raw'), 'raw');
  await commit(images.path('top.qcow2'), { host });
  await compare(images.path('base.qcow2'), 'qcow2', images.path('before.raw'), 'raw');
});
