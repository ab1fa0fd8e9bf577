// What zeros of the top become in each kind of base.

import { expect, test } from 'vitest';
import { Images } from '../support/images.ts';
import type { MapEntry } from '../support/qemu.ts';

const KIB = 1024;

/** A base full of data, and a top of the same size. */
async function over(base: string, options?: string, backing?: string): Promise<Images> {
  const images = new Images();
  if (backing !== undefined) {
    await images.create(backing, '1M');
    await images.io(backing, 'write -P 9 0 1M');
  }
  await images.create(base, '1M', {
    ...(options !== undefined && { options }),
    ...(backing !== undefined && { backing }),
  });
  await images.io(base, 'write -P 1 0 1M');
  await images.create('top.qcow2', '1M', { backing: base, options: 'cluster_size=4k' });
  return images;
}

async function at(images: Images, name: string, offset: number): Promise<MapEntry> {
  const entry = (await images.map(name)).find(
    ({ start, length }) => start <= offset && offset < start + length,
  );
  if (entry === undefined) throw new Error(`${name}: no entry for ${offset}`);
  return entry;
}

test('version 3: zero clusters', async () => {
  const images = await over('base.qcow2');
  await images.io('top.qcow2', 'write -z 256k 128k');
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
  expect(await at(images, 'base.qcow2', 256 * KIB)).toMatchObject({
    start: 256 * KIB,
    length: 128 * KIB,
    present: true,
    zero: true,
    data: false,
  });
});

test('version 3 over a backing file: zero clusters hide what lies below', async () => {
  const images = await over('base.qcow2', 'cluster_size=64k', 'below.qcow2');
  await images.io('top.qcow2', 'write -z 256k 128k');
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
  expect(await at(images, 'base.qcow2', 256 * KIB)).toMatchObject({
    depth: 0,
    zero: true,
    data: false,
  });
});

test('version 2 without a backing file: deallocated', async () => {
  const images = await over('base.qcow2', 'compat=0.10');
  await images.io('top.qcow2', 'write -z 256k 128k');
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
  expect(await at(images, 'base.qcow2', 256 * KIB)).toMatchObject({
    start: 256 * KIB,
    length: 128 * KIB,
    present: false,
    zero: true,
  });
});

test('version 2 over a backing file: written zeros', async () => {
  const images = await over('base.qcow2', 'compat=0.10', 'below.qcow2');
  await images.io('top.qcow2', 'write -z 256k 128k');
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
  expect(await at(images, 'base.qcow2', 256 * KIB)).toMatchObject({ depth: 0, data: true });
});

test('raw: a hole', async () => {
  const images = await over('base.raw');
  await images.io('top.qcow2', 'write -z 256k 128k');
  await images.commitAsQemu('top.qcow2', 'base.raw');
  expect(await at(images, 'base.raw', 256 * KIB)).toMatchObject({
    start: 256 * KIB,
    length: 128 * KIB,
    data: false,
  });
});

test('zeros not aligned to the clusters of base: its ragged ends are written as data', async () => {
  const images = await over('base.qcow2', 'cluster_size=64k');
  await images.io('top.qcow2', 'write -z 100k 104k');
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
  expect(await at(images, 'base.qcow2', 100 * KIB)).toMatchObject({ zero: false, data: true });
  expect(await at(images, 'base.qcow2', 128 * KIB)).toMatchObject({
    start: 128 * KIB,
    length: 64 * KIB,
    zero: true,
  });
  expect(await at(images, 'base.qcow2', 200 * KIB)).toMatchObject({ zero: false, data: true });
});

test('data that is full of zeros is copied as data', async () => {
  const images = await over('base.qcow2');
  await images.io('top.qcow2', 'write -P 0 256k 128k');
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
  expect(await at(images, 'base.qcow2', 256 * KIB)).toMatchObject({ zero: false, data: true });
});

test('zero clusters that still hold a host cluster read as zeros', async () => {
  const images = await over('base.qcow2');
  await images.io('top.qcow2', 'write -P 7 256k 128k', 'write -z 256k 64k', 'discard 320k 4k');
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
  expect(await at(images, 'base.qcow2', 256 * KIB)).toMatchObject({ zero: true, data: false });
});
