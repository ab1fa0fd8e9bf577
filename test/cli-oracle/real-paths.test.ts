// A name like `link/../x` leads where the kernel finds it: up from what the link stands for, not from
// where the link stands.

import { mkdirSync, symlinkSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Images } from '../support/images.ts';
import { checkClean, infoOf } from '../support/qemu.ts';
import { committed, expectRefused } from '../support/refusals.ts';

test('relinked through a link to a directory: the name is seen from where the top really is', async () => {
  const images = new Images();
  for (const dir of ['store/deep', 'lib']) mkdirSync(images.path(dir), { recursive: true });
  symlinkSync('store/deep', images.path('link'));
  await images.create('lib/base.qcow2', '2M');
  await images.io('lib/base.qcow2', 'write -P 1 0 1M');
  await images.create('lib/mid.qcow2', '2M', { backing: 'base.qcow2' });
  await images.io('lib/mid.qcow2', 'write -P 2 512k 1M');
  await images.create('link/top.qcow2', '2M', { backing: '../../lib/mid.qcow2' });
  await images.io('link/top.qcow2', 'write -P 3 1M 512k');
  const view = await images.view('link/top.qcow2');
  await committed(images.dir, '-b', 'lib/base.qcow2', '--relink', 'link/top.qcow2');
  const { 'backing-filename': backing } = await infoOf(images.path('link/top.qcow2'));
  expect(backing).toBe('../../lib/base.qcow2');
  for (const name of ['link/top.qcow2', 'store/deep/top.qcow2', 'lib/base.qcow2']) {
    expect((await images.view(name)).equals(view)).toBe(true);
    await checkClean(images.path(name));
  }
});

test('-b does not take another file for a layer because their names look alike', async () => {
  const images = new Images();
  mkdirSync(images.path('store/deep'), { recursive: true });
  symlinkSync('store/deep', images.path('link'));
  await images.create('store/base.qcow2', '2M');
  await images.create('base.qcow2', '2M');
  await images.create('top.qcow2', '2M', { backing: 'link/../base.qcow2' });
  await images.io('top.qcow2', 'write -P 3 1M 512k');
  // QEMU says the same: ./base.qcow2 is not in this chain, store/base.qcow2 is.
  const words = /Did not find 'base\.qcow2' in the backing chain of 'top\.qcow2'/;
  await expectRefused(images.dir, ['commit', '-b', 'base.qcow2', 'top.qcow2'], words);
});
