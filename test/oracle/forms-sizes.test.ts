// Disks of different sizes in one chain.

import { expect, test } from 'vitest';
import { Images } from '../support/images.ts';
import { compare } from '../support/qemu.ts';

const MIB = 1024 * 1024;

const BASES: readonly [string, string | undefined][] = [
  ['base.qcow2', 'compat=1.1'],
  ['base.qcow2', 'compat=0.10'],
  ['base.qcow2', 'cluster_size=512'],
  ['base.qcow2', 'cluster_size=2M'],
  ['base.raw', undefined],
];

test.each(BASES)('%s (%s) grows to the size of a larger top', async (base, options) => {
  const images = new Images();
  await images.create(base, '1025k', options === undefined ? {} : { options });
  await images.io(base, 'write -P 1 0 1025k');
  await images.create('top.qcow2', '70M', { backing: base });
  await images.io('top.qcow2', 'write -P 2 1000k 100k', 'write -P 3 60M 64k');
  await images.commitAsQemu('top.qcow2', base);
  expect(await images.size(base)).toBe(70 * MIB);
});

test.each(BASES)(
  '%s (%s) keeps its size and its bytes past a smaller top',
  async (base, options) => {
    const images = new Images();
    await images.create(base, '8M', options === undefined ? {} : { options });
    await images.io(base, 'write -P 1 0 8M');
    // Ends within a cluster of its own and of base.
    await images.create('top.qcow2', String(3 * MIB + 512 * 5), { backing: base });
    await images.io('top.qcow2', `write -P 2 1M ${2 * MIB + 512 * 5}`);
    const before = await images.view(base);
    await images.commitAsQemu('top.qcow2', base);
    const end = 3 * MIB + 512 * 5;
    expect((await images.view(base)).subarray(end).equals(before.subarray(end))).toBe(true);
  },
);

test('a short layer between: what it hid of base reads as zeros afterwards', async () => {
  const images = new Images();
  await images.create('base.qcow2', '8M');
  await images.io('base.qcow2', 'write -P 1 0 8M');
  await images.create('mid.qcow2', '4M', { backing: 'base.qcow2' });
  await images.create('top.qcow2', '8M', { backing: 'mid.qcow2' });
  await images.commitAsQemu('top.qcow2', 'base.qcow2', { base: 'base.qcow2' });
  const base = await images.view('base.qcow2');
  expect(base.subarray(0, 4 * MIB).every((byte) => byte === 1)).toBe(true);
  expect(base.subarray(4 * MIB).every((byte) => byte === 0)).toBe(true);
});

test('a base that grows over a longer backing file reads as zeros there', async () => {
  const images = new Images();
  await images.create('below.qcow2', '8M');
  await images.io('below.qcow2', 'write -P 1 0 8M');
  await images.create('base.qcow2', '2M', { backing: 'below.qcow2' });
  await images.create('top.qcow2', '8M', { backing: 'base.qcow2' });
  await images.io('top.qcow2', 'write -P 2 6M 1M');
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
});

test('a version 2 base grows over a longer backing file too, where QEMU gives up', async () => {
  const images = new Images();
  await images.create('below.qcow2', '8M');
  await images.io('below.qcow2', 'write -P 1 0 8M');
  await images.create('base.qcow2', '2M', { backing: 'below.qcow2', options: 'compat=0.10' });
  await images.create('top.qcow2', '8M', { backing: 'base.qcow2' });
  await images.io('top.qcow2', 'write -P 2 6M 1M');
  await images.qemuImg('convert', '-O', 'raw', 'top.qcow2', 'before.raw');
  await images.commit('top.qcow2');
  await compare(images.path('base.qcow2'), 'qcow2', images.path('before.raw'), 'raw');
  await compare(images.path('top.qcow2'), 'qcow2', images.path('before.raw'), 'raw');
});
