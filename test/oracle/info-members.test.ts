// What `info` tells of images with many features at once, member by member as qemu-img has it.

import { expect, test } from 'vitest';
import { qimg } from '../support/cli.ts';
import { encryptedFile, luks } from '../support/encrypted.ts';
import { Images } from '../support/images.ts';
import { run } from '../support/qemu.ts';

const SECRET = ['--object', 'secret,id=s,data=geheim'];

test.each([
  ['nothing more', 'cluster_size=64k'],
  ['extended L2 entries', 'extended_l2=on'],
  ['an external data file', 'data_file=data'],
  ['what can be postponed and compressed', 'lazy_refcounts=on,compression_type=zstd'],
  ['version 2', 'compat=0.10'],
  ['encryption', undefined],
])('a backing file, a snapshot, a bitmap, and %s', async (_what, options) => {
  const images = new Images();
  await images.create('base.qcow2', '1M');
  if (options !== undefined) {
    await images.create('top.qcow2', '1M', { options, backing: 'base.qcow2' });
  } else {
    const backing = { backingFile: 'base.qcow2', backingFormat: 'qcow2' };
    const size = 2 ** 20;
    await encryptedFile(images.path('top.qcow2'), { size, encryption: luks(), ...backing });
  }
  const where = { cwd: images.dir };
  await run('qemu-img', ['snapshot', ...SECRET, '-c', 's', 'top.qcow2'], where);
  await run('qemu-img', ['bitmap', '--add', 'top.qcow2', 'b'], where);
  for (const args of [
    ['info', '--output=json', 'top.qcow2'],
    ['info', 'top.qcow2'],
  ]) {
    const theirs = await run('qemu-img', args, where);
    expect(theirs.code).toBe(0);
    expect(await qimg(args, images.dir)).toEqual(theirs);
  }
});
