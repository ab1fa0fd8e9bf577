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

test('zeros over parts of compressed clusters with subclusters: these become data', async () => {
  const images = new Images();
  await images.create('base.qcow2', '1M', { options: 'extended_l2=on,cluster_size=32k' });
  // All of them fit into one host cluster.
  const all = Array.from({ length: 32 }, (_, i) => `write -c -P ${i + 1} ${i * 32}k 32k`);
  await images.io('base.qcow2', ...all);
  await images.create('top.qcow2', '1M', { backing: 'base.qcow2', options: 'cluster_size=4k' });
  const zeros = Array.from({ length: 20 }, (_, i) => `write -z ${i * 32 + 8}k 8k`);
  await images.io('top.qcow2', ...zeros, 'write -z 700k 100k', 'write -P 9 812k 4k');
  const { said, done } = await saidAndDone(images);
  expect(done).toBeGreaterThan(20 * 32 * KIB - 1);
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
