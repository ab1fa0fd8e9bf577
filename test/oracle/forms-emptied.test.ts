// What is left of a top that was committed: as little as QEMU leaves.

import { statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Images } from '../support/images.ts';
import { checkClean } from '../support/qemu.ts';

async function committed(topOptions: string, snapshot = false) {
  const images = new Images();
  await images.create('base.qcow2', '20M');
  await images.io('base.qcow2', 'write -P 1 0 10M');
  await images.create('top.qcow2', '20M', { backing: 'base.qcow2', options: topOptions });
  await images.io('top.qcow2', 'write -P 2 5M 5M', 'write -z 12M 1M');
  if (snapshot) {
    await images.qemuImg('snapshot', '-c', 's', 'top.qcow2');
    await images.io('top.qcow2', 'write -P 3 6M 1M');
  }
  const rival = await images.commitAsQemu('top.qcow2', 'base.qcow2');
  return { images, rival };
}

const OPTIONS = [
  'cluster_size=512',
  'cluster_size=4k',
  'cluster_size=64k',
  'cluster_size=2M',
  'refcount_bits=1',
  'refcount_bits=64,cluster_size=512',
  'lazy_refcounts=on',
  'compression_type=zstd',
];

test.each(OPTIONS)('version 3 (%s): length and map are those of QEMU', async (options) => {
  const { images, rival } = await committed(options);
  const [mine, theirs] = [images.path('top.qcow2'), rival.path('top.qcow2')];
  expect(statSync(mine).size).toBe(statSync(theirs).size);
  // Base itself may differ: we join neighbouring ranges into whole clusters of zeros.
  const own = async (each: Images) =>
    (await each.map('top.qcow2')).filter(({ depth }) => depth === 0);
  expect(await own(images)).toEqual(await own(rival));
  await checkClean(mine);
});

test.each([
  ['version 2', 'compat=0.10', false],
  ['version 2 with a snapshot', 'compat=0.10', true],
  ['version 3 with a snapshot', 'compat=1.1', true],
])('%s: every cluster is unallocated', async (_what, options, snapshot) => {
  const { images } = await committed(options, snapshot);
  const own = (await images.map('top.qcow2')).filter(
    ({ depth, present }) => depth === 0 && present,
  );
  expect(own).toEqual([]);
});
