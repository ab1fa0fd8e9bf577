// The same commit over every pairing of what top and base can be: the guest's view is the contract.

import { test } from 'vitest';
import { Images } from '../support/images.ts';

const SIZE = '5M';

/** Data, zeros and holes, whole clusters and ragged ends, in a base, and over it in a top. */
async function pair(baseOptions: string, topOptions: string): Promise<Images> {
  const images = new Images();
  await images.create('base.qcow2', SIZE, { options: baseOptions });
  await images.io('base.qcow2', 'write -P 1 0 3M', 'write -P 2 4M 700k');
  await images.create('top.qcow2', SIZE, { options: topOptions, backing: 'base.qcow2' });
  return images;
}

const TOP_WRITES = [
  'write -P 3 1536 1024',
  'write -P 4 60k 2100k',
  'write -z 2200k 300k',
  'write -P 5 3M 512',
  'write -z -u 4200k 64k',
  'write -P 6 5242368 512',
];

const CLUSTER_SIZES = ['512', '4k', '64k', '2M'];
const CLUSTER_PAIRS = CLUSTER_SIZES.flatMap((top) => CLUSTER_SIZES.map((base) => [top, base]));

test.each(CLUSTER_PAIRS)('top with clusters of %s into base with clusters of %s', async (t, b) => {
  const images = await pair(`cluster_size=${b}`, `cluster_size=${t}`);
  await images.io('top.qcow2', ...TOP_WRITES);
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
});

const SUBCLUSTERS = [
  'extended_l2=on,cluster_size=16k',
  'extended_l2=on',
  'extended_l2=on,cluster_size=2M',
];
const PLAIN = ['cluster_size=512', 'cluster_size=128k'];
const SUBCLUSTER_PAIRS = [
  ...SUBCLUSTERS.flatMap((top) => [...SUBCLUSTERS, ...PLAIN].map((base) => [top, base] as const)),
  ...PLAIN.flatMap((top) => SUBCLUSTERS.map((base) => [top, base] as const)),
];

test.each(SUBCLUSTER_PAIRS)('a top with %s into a base with %s', async (top, base) => {
  const images = await pair(base, top);
  await images.io('top.qcow2', ...TOP_WRITES);
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
});

test.each(['extended_l2=on', 'cluster_size=4k'])(
  'subclusters of all kinds below, over a backing file, a snapshot and compression: %s',
  async (top) => {
    const images = new Images();
    await images.create('deep.raw', SIZE);
    await images.io('deep.raw', `write -P 9 0 ${SIZE}`);
    const options = 'extended_l2=on,cluster_size=128k';
    await images.create('base.qcow2', SIZE, { options, backing: 'deep.raw' });
    await images.io('base.qcow2', 'write -c -P 1 0 128k', 'write -c -P 2 128k 128k');
    await images.io('base.qcow2', 'write -P 3 300k 5k', 'write -z 320k 8k', 'write -P 4 2M 1M');
    await images.qemuImg('snapshot', '-c', 's', 'base.qcow2');
    await images.io('base.qcow2', 'write -P 5 2100k 1k', 'write -z 2500k 16k');
    await images.create('top.qcow2', SIZE, { options: top, backing: 'base.qcow2' });
    // Into zeros, data, holes; zeros into each; a part of what is compressed, of either kind.
    await images.io('top.qcow2', 'write -P 6 322k 1k', 'write -P 7 301k 3k', 'write -P 8 340k 700');
    await images.io('top.qcow2', 'write -z 302k 4k', 'write -z 2200k 8k', 'write -z 4M 12k');
    await images.io('top.qcow2', 'write -z 4k 8k', 'write -P 10 130k 2k', 'write -z 2600k 300k');
    await images.commitAsQemu('top.qcow2', 'base.qcow2');
  },
);

const VERSIONS = ['0.10', '1.1'];
const VERSION_PAIRS = VERSIONS.flatMap((top) => VERSIONS.map((base) => [top, base]));

test.each(VERSION_PAIRS)('top of version %s into base of version %s', async (top, base) => {
  const images = await pair(`compat=${base}`, `compat=${top}`);
  await images.io('top.qcow2', ...TOP_WRITES);
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
});

test.each([1, 2, 4, 8, 16, 32, 64])('base with refcounts of %i bits', async (bits) => {
  const images = await pair(`refcount_bits=${bits},cluster_size=512`, 'cluster_size=4k');
  await images.io('top.qcow2', ...TOP_WRITES);
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
});

test.each([1, 2, 4, 8, 16, 32, 64])('top with refcounts of %i bits', async (bits) => {
  const images = await pair('cluster_size=4k', `refcount_bits=${bits},cluster_size=512`);
  await images.io('top.qcow2', ...TOP_WRITES);
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
});

test.each(['zlib', 'zstd'])('a top compressed with %s', async (type) => {
  const options = `compression_type=${type}`;
  const images = await pair('cluster_size=4k', options);
  await images.io('top.qcow2', 'write -c -P 3 0 64k', 'write -c -P 4 1M 1M', 'write -P 5 100k 3k');
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
});

test.each(['zlib', 'zstd'])('a base compressed with %s is overwritten in part', async (type) => {
  const images = new Images();
  await images.create('base.qcow2', SIZE, { options: `compression_type=${type}` });
  await images.io(
    'base.qcow2',
    'write -c -P 1 0 64k',
    'write -c -P 2 64k 64k',
    'write -c -P 3 1M 1M',
  );
  await images.create('top.qcow2', SIZE, { backing: 'base.qcow2', options: 'cluster_size=4k' });
  await images.io('top.qcow2', 'write -P 4 4k 8k', 'write -P 5 1500k 100k', 'write -z 64k 64k');
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
});
