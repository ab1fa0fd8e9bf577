// A commit that a full disk stops keeps what it has copied, or gives it back: what it leaks is space
// that its next run needs and can't use.

import { writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { remount, smallDisk, whyNoMounts } from '../support/mounts.ts';
import { checkClean } from '../support/qemu.ts';
import { committed } from '../support/refusals.ts';

const reason = whyNoMounts();
const full = reason === undefined ? test : test.skip;
const named = (name: string) => (reason === undefined ? name : `${name} (${reason})`);

const MIB = 1024 * 1024;

/** A base with 2 MiB of room for the 3 MiB that the top holds. */
async function tooMuchByOneMiB(): Promise<Images> {
  const images = new Images(smallDisk(8 * MIB));
  await images.create('base.qcow2', '16M', { options: 'cluster_size=4k' });
  await images.create('top.qcow2', '16M', { backing: 'base.qcow2', options: 'cluster_size=4k' });
  await images.io('top.qcow2', 'write -P 2 512k 3M');
  writeFileSync(images.path('filler'), Buffer.alloc(3 * MIB, 1));
  const { code, stderr } = await limited(['commit', '--force', 'top.qcow2'], images.dir);
  expect([code, stderr]).toEqual([1, expect.stringMatching(/No space left on device/)]);
  return images;
}

full(named('nothing of base is leaked (QEMU leaks nothing here either)'), async () => {
  const images = await tooMuchByOneMiB();
  await checkClean(images.path('base.qcow2'));
});

full(named('with the room that was missing, and a little more, the rerun completes'), async () => {
  const images = await tooMuchByOneMiB();
  remount(images.dir, `size=${8 * MIB + 1300 * 1024}`);
  await committed(images.dir, '--force', 'top.qcow2');
});
