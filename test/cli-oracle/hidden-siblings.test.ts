// Images that stand on base and are not easily noticed: without a word the commit would change what
// their guests see.

import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { test } from 'vitest';
import type { Images } from '../support/images.ts';
import { expectRefused } from '../support/refusals.ts';
import { stack, TWO } from '../support/stacks.ts';

const create = (images: Images, ...args: readonly string[]) =>
  images.qemuImg('create', '-q', '-u', ...args);

test('a sibling that names its backing file as json:, as libvirt and QEMU do', async () => {
  const images = await stack(TWO);
  const file = { driver: 'file', filename: images.path('base.qcow2') };
  const json = `json:${JSON.stringify({ driver: 'qcow2', file })}`;
  await create(images, '-f', 'qcow2', '-b', json, '-F', 'qcow2', 'sibling.qcow2', '8M');
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /sibling\.qcow2/);
});

test('a sibling that is in the directory of the chain as a link to an image elsewhere', async () => {
  const images = await stack(TWO);
  mkdirSync(images.path('store'));
  await images.create('store/disk.qcow2', '8M', { backing: images.path('base.qcow2') });
  symlinkSync('store/disk.qcow2', images.path('sibling.qcow2'));
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /sibling\.qcow2|disk\.qcow2/);
});

test('a sibling beside the file that the name of base is a link to', async () => {
  const images = await stack(TWO);
  mkdirSync(images.path('store'));
  renameSync(images.path('base.qcow2'), images.path('store/base.qcow2'));
  symlinkSync('store/base.qcow2', images.path('base.qcow2'));
  await images.create('store/sibling.qcow2', '8M', { backing: 'base.qcow2' });
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /sibling\.qcow2/);
});

test('a sibling with an incompatible feature of a later QEMU', async () => {
  const images = await stack(TWO);
  await images.create('sibling.qcow2', '8M', { backing: 'base.qcow2' });
  const bytes = readFileSync(images.path('sibling.qcow2'));
  bytes[79] = 0x40;
  writeFileSync(images.path('sibling.qcow2'), bytes);
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /sibling\.qcow2/);
});
