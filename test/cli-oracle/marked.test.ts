// Images that say of themselves that something is wrong: dirty (a writer with lazy refcounts was
// killed) and corrupt.

import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { asQemu } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { checkClean } from '../support/qemu.ts';
import { committed, contentOf, expectRefused } from '../support/refusals.ts';
import { stack, THREE } from '../support/stacks.ts';

/** The last byte of the incompatible features: bit 0 dirty, bit 1 corrupt. */
const FEATURES = 79;

function mark(file: string, bits: number): void {
  const bytes = readFileSync(file);
  bytes[FEATURES] = (bytes[FEATURES] ?? 0) | bits;
  writeFileSync(file, bytes);
}

const isDirty = (file: string): boolean => ((readFileSync(file)[FEATURES] ?? 0) & 1) === 1;

/** The abort leaves an image as a crash would: the dirty bit on, refcounts too low. */
async function killedWriter(name: string, images: Images, backing?: string): Promise<void> {
  const options = { options: 'lazy_refcounts=on', ...(backing !== undefined && { backing }) };
  await images.create(name, '8M', options);
  await images.io(name, 'write -P 1 0 1M', 'flush', 'abort').catch(() => undefined);
  expect(isDirty(images.path(name))).toBe(true);
}

test.each([['default'], ['-d'], ['as qemu-img']])(
  'a dirty base has its refcounts rebuilt before it is written to: %s',
  async (form) => {
    const images = new Images();
    await killedWriter('base.qcow2', images);
    await images.create('top.qcow2', '8M', { backing: 'base.qcow2' });
    await images.io('top.qcow2', 'write -P 2 512k 3M', 'write -z 7M 64k');
    const view = await images.view('top.qcow2');
    if (form === 'as qemu-img') {
      const link = asQemu();
      expect((await link.run(['commit', 'top.qcow2'], images.dir)).code).toBe(0);
      link.remove();
    } else await committed(images.dir, ...(form === '-d' ? ['-d'] : []), 'top.qcow2');
    await checkClean(images.path('base.qcow2'));
    await checkClean(images.path('top.qcow2'));
    expect(isDirty(images.path('base.qcow2'))).toBe(false);
    expect((await images.view('top.qcow2')).equals(view)).toBe(true);
    expect((await images.view('base.qcow2')).equals(view)).toBe(true);
  },
);

test('a dirty layer between, and one below base, are read as they are', async () => {
  const images = new Images();
  await killedWriter('below.qcow2', images);
  await images.create('base.qcow2', '8M', { backing: 'below.qcow2' });
  await killedWriter('mid.qcow2', images, 'base.qcow2');
  await images.create('top.qcow2', '8M', { backing: 'mid.qcow2' });
  await images.io('top.qcow2', 'write -P 2 512k 3M');
  const view = await images.view('top.qcow2');
  const before = contentOf(images.dir);
  await committed(images.dir, '-b', 'base.qcow2', '--relink', 'top.qcow2');
  const after = contentOf(images.dir);
  for (const name of ['below.qcow2', 'mid.qcow2']) expect(after[name]).toBe(before[name]);
  for (const name of ['base.qcow2', 'top.qcow2']) {
    expect((await images.view(name)).equals(view)).toBe(true);
    await checkClean(images.path(name));
  }
});

test('a dirty top is committed and emptied', async () => {
  const images = new Images();
  await images.create('base.qcow2', '8M');
  await killedWriter('top.qcow2', images, 'base.qcow2');
  const view = await images.view('top.qcow2');
  await committed(images.dir, 'top.qcow2');
  for (const name of ['base.qcow2', 'top.qcow2']) {
    expect((await images.view(name)).equals(view)).toBe(true);
    await checkClean(images.path(name));
  }
});

test('a base marked corrupt: refused in every form before the first write, --force or not', async () => {
  const images = await stack(THREE);
  mark(images.path('base.qcow2'), 2);
  for (const form of [[], ['--force'], ['--relink', '--delete'], ['--dry-run', '--output=json']]) {
    const before = contentOf(images.dir);
    const args = ['commit', '-b', 'base.qcow2', ...form, 'top.qcow2'];
    const { code, stdout, stderr } = await limited(args, images.dir);
    expect(code).toBe(1);
    expect(stdout + stderr).toMatch(/base\.qcow2.*corrupt/);
    expect(contentOf(images.dir)).toEqual(before);
  }
  const link = asQemu();
  const { code, stderr } = await link.run(['commit', '-b', 'base.qcow2', 'top.qcow2'], images.dir);
  link.remove();
  expect([code, stderr]).toEqual([1, expect.stringMatching(/^qemu-img: .*base\.qcow2.*corrupt/)]);
});

test('a base that is corrupt and dirty is not repaired on the way', async () => {
  const images = await stack(['base.qcow2', 'top.qcow2']);
  mark(images.path('base.qcow2'), 3);
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /base\.qcow2.*corrupt/);
});

test('a top marked corrupt: refused', async () => {
  const images = await stack(['base.qcow2', 'top.qcow2']);
  mark(images.path('top.qcow2'), 2);
  for (const form of [[], ['-d'], ['--force']]) {
    await expectRefused(images.dir, ['commit', ...form, 'top.qcow2'], /'top\.qcow2'.*corrupt/);
  }
});

test('an overlay to be relinked that is marked corrupt: refused, base untouched', async () => {
  const images = await stack(THREE);
  await images.create('other.qcow2', '8M', { backing: 'mid.qcow2' });
  mark(images.path('other.qcow2'), 2);
  const args = ['commit', '--top', 'mid.qcow2', '--overlay', 'other.qcow2', 'top.qcow2'];
  await expectRefused(images.dir, args, /other\.qcow2.*corrupt/);
});
