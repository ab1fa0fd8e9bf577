// --overlay with an image that is open already: our own lock is not taken for another process's.

import { test } from 'vitest';
import type { Images } from '../support/images.ts';
import { qemuImg } from '../support/qemu.ts';
import { committed } from '../support/refusals.ts';
import { FIVE, stack } from '../support/stacks.ts';

const RANGE = ['--top', 'sn3.qcow2', '-b', 'sn1.qcow2'];

async function expectRelinked(images: Images, ...overlays: readonly string[]): Promise<void> {
  for (const name of overlays) {
    const info = await qemuImg('info', '--output=json', images.path(name));
    const { 'backing-filename': backing } = JSON.parse(info) as Record<string, string>;
    if (backing !== 'sn1.qcow2') throw new Error(`${name} stands on ${backing}`);
  }
}

test('FILENAME itself, which is relinked anyway', async () => {
  const images = await stack(FIVE);
  await committed(images.dir, ...RANGE, '--overlay', 'sn4.qcow2', 'sn4.qcow2');
  await expectRelinked(images, 'sn4.qcow2');
});

test('the same overlay twice', async () => {
  const images = await stack(FIVE);
  await images.create('other.qcow2', '8M', { backing: 'sn3.qcow2' });
  const twice = ['--overlay', 'other.qcow2', '--overlay', './other.qcow2'];
  await committed(images.dir, ...RANGE, ...twice, 'sn4.qcow2');
  await expectRelinked(images, 'sn4.qcow2', 'other.qcow2');
});
