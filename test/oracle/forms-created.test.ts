// The other direction: chains that we create and fill, committed by QEMU.

import { expect, test } from 'vitest';
import { type Chain, type CreateOptions, createImage } from '../../src/index.ts';
import { qemuCommitter } from '../support/committers.ts';
import { Images } from '../support/images.ts';
import { checkClean } from '../support/qemu.ts';

const KIB = 1024;
const SIZE = 3 * KIB * KIB;

/** Bytes that differ from sector to sector. */
function noise(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => 1 + ((seed + i + (i >> 9)) % 251));
}

const SHAPES: readonly (readonly [string, Partial<CreateOptions>])[] = [
  ['default', {}],
  ['clusters of 512 bytes', { clusterSize: 512 }],
  ['clusters of 2 MiB', { clusterSize: 2 * KIB * KIB }],
  ['version 2', { version: 2 }],
  ['refcounts of 1 bit', { refcountBits: 1, clusterSize: 4096 }],
  ['refcounts of 64 bits', { refcountBits: 64, clusterSize: 512 }],
  ['lazy refcounts', { lazyRefcounts: true }],
  ['extended L2 entries', { extendedL2: true, clusterSize: 128 * KIB }],
  ['extended L2 entries, preallocated', { extendedL2: true, preallocation: 'metadata' }],
];

test.each(SHAPES)('%s: QEMU commits what we made', async (_what, shape) => {
  const images = new Images();
  const expected = new Uint8Array(SIZE);
  const write = async (image: Chain, at: number, length: number) => {
    const data = noise(length, at % 199);
    await image.write(at, data);
    expected.set(data, at);
  };
  const base = await createImage(images.path('base.qcow2'), { ...shape, size: SIZE });
  await write(base, 0, 1000 * KIB);
  await write(base, 2048 * KIB, 3 * 512);
  await base.close();
  const backing = { backingFile: 'base.qcow2', backingFormat: 'qcow2' } as const;
  const top = await createImage(images.path('top.qcow2'), { ...shape, ...backing, size: SIZE });
  await write(top, 300 * KIB, 100 * KIB);
  // Less than a cluster: the rest of it is base's.
  await write(top, 1000, 10);
  await write(top, SIZE - 512, 512);
  await top.zero(320 * KIB, 16 * KIB);
  expected.fill(0, 320 * KIB, 336 * KIB);
  await top.close();

  for (const name of ['base.qcow2', 'top.qcow2']) await checkClean(images.path(name));
  expect((await images.view('top.qcow2')).equals(expected)).toBe(true);
  await qemuCommitter.commit(images.dir, 'top.qcow2', {});
  for (const name of ['base.qcow2', 'top.qcow2']) {
    await checkClean(images.path(name));
    expect((await images.view(name)).equals(expected), name).toBe(true);
  }
});

test('QEMU commits into a base that we committed into, and we into its', async () => {
  const images = new Images();
  await images.create('base.qcow2', '3M', { options: 'cluster_size=4k' });
  await images.create('top.qcow2', '3M', { backing: 'base.qcow2' });
  for (const [i, committer] of ['ours', 'theirs', 'ours', 'theirs'].entries()) {
    await images.io('top.qcow2', `write -P ${i + 1} ${i * 300}k 1M`, `write -z ${i * 500}k 100k`);
    const before = await images.view('top.qcow2');
    if (committer === 'ours') await images.commit('top.qcow2');
    else await qemuCommitter.commit(images.dir, 'top.qcow2', {});
    for (const name of ['base.qcow2', 'top.qcow2']) {
      await checkClean(images.path(name));
      expect((await images.view(name)).equals(before), `${name} after ${committer}`).toBe(true);
    }
  }
});
