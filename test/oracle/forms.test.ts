// The forms of commit, one example each; QEMU builds the chains and reads what became of them.

import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Refused } from '../support/committers.ts';
import { Images } from '../support/images.ts';
import { checkClean, infoOf, snapshotOwn } from '../support/qemu.ts';

/** base <- sn1 <- ... each with a MiB of its own, the next one half over the one below. */
async function stack(...names: readonly string[]): Promise<Images> {
  const images = new Images();
  for (const [i, name] of names.entries()) {
    const backing = names[i - 1];
    await images.create(name, '8M', backing === undefined ? {} : { backing });
    await images.io(name, `write -P ${i + 1} ${i * 512}k 1M`);
  }
  return images;
}

const bytes = (images: Images, name: string) => readFileSync(images.path(name));

async function backingOf(images: Images, name: string): Promise<string | undefined> {
  return (await infoOf(images.path(name)))['backing-filename'];
}

test('default: the top goes into its backing file and is emptied', async () => {
  const images = await stack('base.qcow2', 'mid.qcow2', 'top.qcow2');
  const base = bytes(images, 'base.qcow2');
  await images.commitAsQemu('top.qcow2', 'mid.qcow2');
  expect((await images.map('top.qcow2')).filter(({ depth }) => depth === 0)).toEqual([]);
  expect(bytes(images, 'base.qcow2').equals(base)).toBe(true);
});

test('-d: the top is left as it is', async () => {
  const images = await stack('base.qcow2', 'top.qcow2');
  const top = bytes(images, 'top.qcow2');
  await images.commitAsQemu('top.qcow2', 'base.qcow2', { drop: true });
  expect(bytes(images, 'top.qcow2').equals(top)).toBe(true);
});

test('-b: all layers above base go into it, and are left as they are', async () => {
  const images = await stack('base.qcow2', 'sn1.qcow2', 'sn2.qcow2', 'top.qcow2');
  const above = ['sn1.qcow2', 'sn2.qcow2', 'top.qcow2'].map((name) => bytes(images, name));
  await images.commitAsQemu('top.qcow2', 'base.qcow2', { base: 'base.qcow2' });
  const after = ['sn1.qcow2', 'sn2.qcow2', 'top.qcow2'].map((name) => bytes(images, name));
  expect(after.every((file, i) => file.equals(above[i] ?? Buffer.alloc(0)))).toBe(true);
});

test('-b with relink and delete: the top stands on base, the layers between are gone', async () => {
  const images = await stack('base.qcow2', 'sn1.qcow2', 'sn2.qcow2', 'top.qcow2');
  const before = await images.view('top.qcow2');
  await images.commit('top.qcow2', { base: 'base.qcow2', relink: true, delete: true });
  expect(await backingOf(images, 'top.qcow2')).toBe('base.qcow2');
  expect(['sn1.qcow2', 'sn2.qcow2'].filter((name) => existsSync(images.path(name)))).toEqual([]);
  expect((await images.view('top.qcow2')).equals(before)).toBe(true);
  expect((await images.view('base.qcow2')).equals(before)).toBe(true);
});

test('inner layers: base <- sn1 <- sn2 <- sn3 <- sn4 becomes base <- sn1 <- sn4', async () => {
  const images = await stack('base.qcow2', 'sn1.qcow2', 'sn2.qcow2', 'sn3.qcow2', 'sn4.qcow2');
  const [merged, active] = [await images.view('sn3.qcow2'), await images.view('sn4.qcow2')];
  await images.commit('sn4.qcow2', { top: 'sn3.qcow2', base: 'sn1.qcow2', delete: true });
  expect(await backingOf(images, 'sn4.qcow2')).toBe('sn1.qcow2');
  expect(await backingOf(images, 'sn1.qcow2')).toBe('base.qcow2');
  expect(['sn2.qcow2', 'sn3.qcow2'].filter((name) => existsSync(images.path(name)))).toEqual([]);
  expect((await images.view('sn4.qcow2')).equals(active)).toBe(true);
  expect((await images.view('sn1.qcow2')).equals(merged)).toBe(true);
});

test('inner layers: an overlay longer than top goes on seeing zeros past its end', async () => {
  const images = new Images();
  await images.create('base.qcow2', '8M');
  await images.io('base.qcow2', 'write -P 1 0 8M');
  await images.create('mid.qcow2', '4M', { backing: 'base.qcow2' });
  await images.create('top.qcow2', '8M', { backing: 'mid.qcow2' });
  const before = await images.view('top.qcow2');
  await images.commit('top.qcow2', { top: 'mid.qcow2', base: 'base.qcow2' });
  expect(await backingOf(images, 'top.qcow2')).toBe('base.qcow2');
  expect((await images.view('top.qcow2')).equals(before)).toBe(true);
});

test('relink across directories: the name is relative to the overlay', async () => {
  const images = new Images();
  for (const dir of ['a', 'b', 'c']) mkdirSync(images.path(dir));
  await images.create('a/base.qcow2', '1M');
  await images.io('a/base.qcow2', 'write -P 1 0 1M');
  await images.create('b/mid.qcow2', '1M', { backing: '../a/base.qcow2' });
  await images.io('b/mid.qcow2', 'write -P 2 256k 64k');
  await images.create('c/top.qcow2', '1M', { backing: '../b/mid.qcow2' });
  const before = await images.view('c/top.qcow2');
  await images.commit('c/top.qcow2', { base: 'a/base.qcow2', relink: true });
  expect(await backingOf(images, 'c/top.qcow2')).toBe('../a/base.qcow2');
  expect((await images.view('c/top.qcow2')).equals(before)).toBe(true);
});

test('snapshots in base keep their content, those in top stay', async () => {
  const images = await stack('base.qcow2', 'top.qcow2');
  const own = (name: string) =>
    snapshotOwn(images.path(name), 's', images.path('snapshot.scratch'));
  await images.qemuImg('snapshot', '-c', 's', 'base.qcow2');
  await images.io('base.qcow2', 'write -P 8 100k 300k');
  await images.qemuImg('snapshot', '-c', 's', 'top.qcow2');
  await images.io('top.qcow2', 'write -P 9 600k 300k');
  const [inBase, inTop] = [await own('base.qcow2'), await own('top.qcow2')];
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
  expect((await own('base.qcow2')).equals(inBase)).toBe(true);
  expect((await own('top.qcow2')).equals(inTop)).toBe(true);
});

test('200 layers: all of them into the lowest', { timeout: 120_000 }, async () => {
  const images = new Images();
  const name = (i: number) => `layer${i}.qcow2`;
  for (let i = 0; i < 200; i++) {
    await images.create(name(i), '1M', i === 0 ? {} : { backing: name(i - 1) });
    if (i % 20 === 0 || i > 195) await images.io(name(i), `write -P ${i + 1} ${i * 2}k 64k`);
  }
  await images.commitAsQemu(name(199), name(0), { base: name(0) });
});

test('a rerun after emptying finds nothing to do', async () => {
  const images = await stack('base.qcow2', 'top.qcow2');
  await images.commit('top.qcow2');
  const [base, top] = [bytes(images, 'base.qcow2'), bytes(images, 'top.qcow2')];
  await images.commit('top.qcow2');
  expect(bytes(images, 'base.qcow2').equals(base)).toBe(true);
  expect(bytes(images, 'top.qcow2').equals(top)).toBe(true);
});

test('an emptied top takes new writes and can be committed again', async () => {
  const images = await stack('base.qcow2', 'top.qcow2');
  await images.commit('top.qcow2');
  await images.io('top.qcow2', 'write -P 77 300k 2M', 'write -z 5M 1M');
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
});

test('a base with the dirty bit has its refcounts rebuilt before it is written to', async () => {
  const images = new Images();
  await images.create('base.qcow2', '8M', { options: 'lazy_refcounts=on' });
  // The abort leaves the image as a crash would: the dirty bit on, refcounts too low.
  await images.io('base.qcow2', 'write -P 1 0 1M', 'flush', 'abort').catch(() => undefined);
  expect(bytes(images, 'base.qcow2')[79]).toBe(1);
  await images.create('top.qcow2', '8M', { backing: 'base.qcow2' });
  await images.io('top.qcow2', 'write -P 2 4M 1M');
  const before = await images.view('top.qcow2');
  await images.commit('top.qcow2');
  await checkClean(images.path('base.qcow2'));
  expect((await images.view('base.qcow2')).equals(before)).toBe(true);
});

test('refused, nothing changed: another image stands on base', async () => {
  const images = await stack('base.qcow2', 'top.qcow2');
  await images.create('sibling.qcow2', '8M', { backing: 'base.qcow2' });
  const before = bytes(images, 'base.qcow2');
  await expect(images.commit('top.qcow2')).rejects.toThrow(/sibling\.qcow2/);
  expect(bytes(images, 'base.qcow2').equals(before)).toBe(true);
});

test('refused, nothing changed: a version 2 base with snapshots would have to grow', async () => {
  const images = new Images();
  await images.create('base.qcow2', '1M', { options: 'compat=0.10' });
  await images.qemuImg('snapshot', '-c', 's', 'base.qcow2');
  await images.create('top.qcow2', '2M', { backing: 'base.qcow2' });
  await images.io('top.qcow2', 'write -P 1 0 2M');
  const before = bytes(images, 'base.qcow2');
  await expect(images.commit('top.qcow2')).rejects.toThrow(Refused);
  expect(bytes(images, 'base.qcow2').equals(before)).toBe(true);
});
