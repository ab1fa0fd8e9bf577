// The space that a commit needs, computed before it starts: never too little (it would be started
// and stop half-way), and not so much that what fits is refused.

import { statSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { smallDisk, whyNoMounts } from '../support/mounts.ts';
import { committed } from '../support/refusals.ts';

const reason = whyNoMounts();
const onSmallDisk = reason === undefined ? test : test.skip;
const named = (name: string) => (reason === undefined ? name : `${name} (${reason})`);

const KIB = 1024;

async function saidAndDone(
  images: Images,
): Promise<{ readonly said: number; readonly done: number }> {
  const args = ['commit', '--dry-run', '--output=json', 'top.qcow2'];
  const { stdout } = await limited(args, images.dir);
  const { 'growth-bytes': said } = JSON.parse(stdout) as { readonly 'growth-bytes': number };
  // Not its length: that has gaps which take no space.
  const usage = () => statSync(images.path('base.qcow2')).blocks * 512;
  const before = usage();
  await committed(images.dir, 'top.qcow2');
  return { said, done: usage() - before };
}

test('a base whose L1 and refcount tables have to grow: their space is counted', async () => {
  const images = new Images();
  await images.create('base.qcow2', '1M', { options: 'cluster_size=512' });
  await images.create('top.qcow2', '2G', { backing: 'base.qcow2' });
  await images.io('top.qcow2', 'write -P 1 1G 64k');
  const { said, done } = await saidAndDone(images);
  expect(said).toBeGreaterThanOrEqual(done);
});

onSmallDisk(named('and too little space for them is refused up front'), async () => {
  const images = new Images(smallDisk(480 * KIB));
  await images.create('base.qcow2', '1M', { options: 'cluster_size=512' });
  const top = new Images();
  await top.create('top.qcow2', '2G', { backing: images.path('base.qcow2') });
  await top.io('top.qcow2', 'write -P 1 1G 64k');
  const { code, stderr } = await limited(['commit', 'top.qcow2'], top.dir);
  expect([code, stderr]).toEqual([1, expect.stringMatching(/needs \d+ bytes more/)]);
});

onSmallDisk(named('what fits is not refused, to the last cluster'), async () => {
  const disk = smallDisk(6 * KIB * KIB);
  const images = new Images(disk);
  await images.create('base.qcow2', '16M');
  await images.create('top.qcow2', '16M', { backing: 'base.qcow2' });
  await images.io('top.qcow2', 'write -P 2 512k 2M');
  // 32 clusters of data and one for their L2 table; the refcounts have room in their block.
  const needed = 33 * 64 * KIB;
  const used = ['base.qcow2', 'top.qcow2'].reduce(
    (sum, name) => sum + statSync(images.path(name)).blocks * 512,
    0,
  );
  writeFileSync(images.path('filler'), Buffer.alloc(6 * KIB * KIB - used - needed - 16 * KIB, 1));
  await committed(disk, 'top.qcow2');
});
