// rebase -S: which runs of zeros become zero clusters. The disk shows the same whatever is asked for.

import { expect, test } from 'vitest';
import { qimg } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { checkClean, compare, run } from '../support/qemu.ts';

/** Below: zeros of 64 and of 192 KiB among data; the image is to stand on something else. */
async function twoBackingFiles(): Promise<Images> {
  const images = new Images();
  await images.create('old.qcow2', '1M');
  await images.io('old.qcow2', 'write -P 1 0 1M', 'write -z 64k 64k', 'write -z 256k 192k');
  await images.create('new.qcow2', '1M');
  await images.io('new.qcow2', 'write -P 2 0 1M');
  await images.create('top.qcow2', '1M', { backing: 'old.qcow2' });
  await images.qemuImg('convert', '-O', 'raw', 'top.qcow2', 'before.raw');
  return images;
}

/** KiB of the top itself that are zero clusters. */
async function zeroed(images: Images): Promise<number> {
  const args = ['map', '--output=json', images.path('top.qcow2')];
  const map = JSON.parse((await run('qemu-img', args)).stdout) as readonly {
    readonly depth: number;
    readonly zero: boolean;
    readonly length: number;
  }[];
  const own = map.filter(({ depth, zero }) => depth === 0 && zero);
  return own.reduce((sum, { length }) => sum + length / 1024, 0);
}

test.each([
  ['nothing asked for', [], 256],
  ['-S 64k', ['-S', '64k'], 256],
  ['-S 128k', ['-S', '128k'], 192],
  ['--sparse-size 1M', ['--sparse-size', '1M'], 0],
  ['-S 0', ['-S', '0'], 0],
])('%s', async (_what, asked, kib) => {
  const images = await twoBackingFiles();
  const args = ['rebase', ...asked, '-b', 'new.qcow2', '-F', 'qcow2', 'top.qcow2'];
  expect(await qimg(args, images.dir)).toMatchObject({ code: 0, stderr: '' });
  expect(await zeroed(images)).toBe(kib);
  await checkClean(images.path('top.qcow2'));
  await compare(images.path('top.qcow2'), 'qcow2', images.path('before.raw'), 'raw');
});

test.each(['1000', '4G', 'x'])('-S %s is refused before anything is written', async (size) => {
  const images = await twoBackingFiles();
  const args = ['rebase', '-S', size, '-b', 'new.qcow2', '-F', 'qcow2', 'top.qcow2'];
  const { code, stderr } = await qimg(args, images.dir);
  expect([code, stderr]).toEqual([1, expect.stringMatching(/^qimg-ts: Invalid .* specified/)]);
});
