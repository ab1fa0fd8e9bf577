// --force with --delete: a file on which another image is known to stand must not be removed; that
// image would not see other data, it would not open any more.

import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { limited } from '../support/limited.ts';
import { run } from '../support/qemu.ts';
import { FIVE, stack } from '../support/stacks.ts';

test('the overlay of a merged layer still opens afterwards', async () => {
  const images = await stack(FIVE);
  await images.create('other.qcow2', '8M', { backing: 'sn3.qcow2' });
  const form = ['--force', '--top', 'sn3.qcow2', '-b', 'sn1.qcow2', '--delete', 'sn4.qcow2'];
  await limited(['commit', ...form], images.dir);
  expect(existsSync(images.path('sn3.qcow2'))).toBe(true);
  const { code, stderr } = await run('qemu-io', ['-r', '-c', 'read 0 1M', 'other.qcow2'], {
    cwd: images.dir,
  });
  expect([code, stderr]).toEqual([0, '']);
});
