// Stopped (killed, power lost) between two relinks, the same command has to complete the work. The
// state that such a stop leaves is made here by commands that do one half of it.

import { expect, test } from 'vitest';
import { infoOf } from '../support/qemu.ts';
import { committed, expectRefused } from '../support/refusals.ts';
import { FIVE, stack } from '../support/stacks.ts';

const RANGE = ['--top', 'sn3.qcow2', '-b', 'sn1.qcow2'];
const COMMAND = [...RANGE, '--overlay', 'other.qcow2', 'sn4.qcow2'];

async function branched() {
  const images = await stack(FIVE);
  await images.create('other.qcow2', '8M', { backing: 'sn3.qcow2' });
  await images.io('other.qcow2', 'write -P 50 256k 512k');
  const views = [await images.view('sn4.qcow2'), await images.view('other.qcow2')] as const;
  const expectDone = async () => {
    for (const [i, name] of ['sn4.qcow2', 'other.qcow2'].entries()) {
      expect((await infoOf(images.path(name)))['backing-filename']).toBe('sn1.qcow2');
      expect((await images.view(name)).equals(views[i] ?? Buffer.alloc(0))).toBe(true);
    }
  };
  return { images, expectDone };
}

test('the other overlay was relinked, FILENAME was not', async () => {
  const { images, expectDone } = await branched();
  await committed(images.dir, '--force', ...RANGE, 'other.qcow2');
  await committed(images.dir, ...COMMAND);
  await expectDone();
});

test('all was relinked, nothing deleted yet', async () => {
  const { images, expectDone } = await branched();
  await committed(images.dir, ...COMMAND);
  await committed(images.dir, ...COMMAND);
  await expectDone();
});

test('all was relinked, and the files are still to be deleted', async () => {
  const { images, expectDone } = await branched();
  await committed(images.dir, ...COMMAND);
  const { stderr } = await committed(images.dir, ...COMMAND, '--delete');
  expect(stderr).toBe("qimg-ts: deleted: 'sn3.qcow2', 'sn2.qcow2'\n");
  await expectDone();
});

test('layers that hold something else are not taken for merged ones', async () => {
  const { images } = await branched();
  await committed(images.dir, ...COMMAND);
  await images.io('sn3.qcow2', 'write -P 77 1M 512');
  const words = /Did not find 'sn3\.qcow2' in the backing chain of 'sn4\.qcow2'/;
  await expectRefused(images.dir, ['commit', ...COMMAND, '--delete'], words);
});
