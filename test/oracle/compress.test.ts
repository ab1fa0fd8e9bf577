// Clusters that a commit stores compressed: QEMU reads and checks them, and they take less room.

import { statSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { qimg } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { checkClean, mapOf } from '../support/qemu.ts';
import { expectRefused } from '../support/refusals.ts';

const HAS_ZSTD = 'zstd' in process.versions;

/** Data that shrinks and data that does not, whole clusters and parts, over every kind of cluster. */
async function pair(baseOptions: string, topOptions = 'cluster_size=64k'): Promise<Images> {
  const images = new Images();
  await images.create('base.qcow2', '5000192', { options: baseOptions });
  await images.io('base.qcow2', 'write -P 1 0 1M', 'write -c -P 2 2M 2M', 'write -z 2M 64k');
  await images.create('top.qcow2', '5000192', { options: topOptions, backing: 'base.qcow2' });
  let state = 1;
  const noise = Uint8Array.from({ length: 300_000 }, () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return state >>> 24;
  });
  writeFileSync(images.path('noise'), noise);
  await images.io(
    'top.qcow2',
    'write -s noise 300k 300k',
    'write -P 5 700k 700k',
    'write -P 6 3M 1M',
    'write -P 7 2100k 3k',
    'write -P 8 4800k 81k',
  );
  return images;
}

const BASES = [
  'cluster_size=512',
  'cluster_size=4k,refcount_bits=1',
  'cluster_size=64k',
  'cluster_size=64k,refcount_bits=2',
  'cluster_size=2M',
  'cluster_size=64k,compat=0.10',
  'cluster_size=16k,extended_l2=on',
  'cluster_size=128k,extended_l2=on',
  ...(HAS_ZSTD ? ['cluster_size=64k,compression_type=zstd'] : []),
];

test.each(BASES)('into a base with %s', async (options) => {
  const images = await pair(options);
  const before = await images.view('top.qcow2');
  const plain = images.copy();
  await images.commit('top.qcow2', { compress: true });
  for (const name of ['base.qcow2', 'top.qcow2']) {
    expect((await images.view(name)).equals(before), name).toBe(true);
    await checkClean(images.path(name));
  }
  await plain.commit('top.qcow2');
  const blocks = (from: Images) => statSync(from.path('base.qcow2')).blocks;
  // Clusters that share none have a few tables more at the end.
  expect(blocks(images)).toBeLessThanOrEqual(blocks(plain) + 16);
  // The guest may write again over what is compressed now.
  await images.io('base.qcow2', 'write -P 9 3100k 100k', 'write -z 3500k 300k');
  await checkClean(images.path('base.qcow2'));
});

test('what shrinks is compressed, what does not is not', async () => {
  const images = await pair('cluster_size=64k');
  await images.commit('top.qcow2', { compress: true });
  const at = (place: number, map: Awaited<ReturnType<typeof mapOf>>) =>
    map.find(({ start, length }) => start <= place && place < start + length);
  const map = await mapOf(images.path('base.qcow2'));
  expect(at(3 * 2 ** 20, map)).toMatchObject({ data: true });
  expect(at(3 * 2 ** 20, map)?.offset).toBeUndefined();
  expect(at(450 * 1024, map)?.offset).toBeDefined();
});

test('by itself, a commit stores plain clusters', async () => {
  const images = await pair('cluster_size=64k');
  await images.commit('top.qcow2');
  const map = await mapOf(images.path('base.qcow2'));
  expect(map.find(({ start }) => start === 3 * 2 ** 20)?.offset).toBeDefined();
});

test.each([
  ['a raw base', 'base.raw', undefined, /no qcow2 image/],
  ['an external data file', 'base.qcow2', 'data_file=data', /external data file/],
  ...(HAS_ZSTD
    ? []
    : [['zstd without a codec', 'base.qcow2', 'compression_type=zstd', /zstd needs/] as const]),
] as const)('%s is refused', async (_what, base, options, words) => {
  const images = new Images();
  await images.create(base, '1M', { ...(options !== undefined && { options }) });
  await images.create('top.qcow2', '1M', { backing: base });
  await images.io('top.qcow2', 'write -P 1 0 100k');
  await expectRefused(images.dir, ['commit', '--compress', 'top.qcow2'], words);
});

test('a bound for the space is told in advance', async () => {
  const images = await pair('cluster_size=64k');
  const base = images.path('base.qcow2');
  const before = statSync(base).size;
  const { stdout } = await qimg(['commit', '--compress', '--dry-run', 'top.qcow2'], images.dir);
  expect(stdout).toMatch(/space needed at most: [1-9]/);
  await images.commit('top.qcow2', { compress: true });
  expect(statSync(base).size).toBeLessThan(before + 5_000_192);
});
