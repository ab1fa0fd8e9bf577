// Killed while nothing but emptying the top is left to do.

import { test } from 'vitest';
import { Images } from '../support/images.ts';
import { changesOf, inLanes, instants, killAfter } from '../support/killed.ts';
import { checkClean, compare } from '../support/qemu.ts';
import { checkNotCorrupt, committed } from '../support/refusals.ts';

test.each([
  ['4k clusters, tables where they were created', 'cluster_size=4k', []],
  ['512-byte clusters, tables moved while it grew', 'cluster_size=512', ['-q']],
] as const)('killed while the top is emptied: %s', async (_what, options, flags) => {
  const images = new Images();
  await images.create('base.qcow2', '16M');
  await images.create('top.qcow2', '16M', { backing: 'base.qcow2', options });
  await images.io('top.qcow2', 'write -P 3 0 2M', 'write -P 4 8M 1M');
  // Base has everything already, so that what is left to do is mostly the emptying.
  await images.qemuImg('commit', '-q', '-d', 'top.qcow2');
  await images.qemuImg('convert', '-O', 'raw', 'top.qcow2', 'before.raw');
  const total = await changesOf(images.copy(), ['top.qcow2']);
  await inLanes(instants(815, 3), async (share) => {
    const now = images.copy();
    await killAfter(now, [...flags, 'top.qcow2'], 1 + Math.floor(share * total));
    for (const name of ['base.qcow2', 'top.qcow2']) {
      await checkNotCorrupt(now.path(name));
      await compare(now.path(name), 'qcow2', images.path('before.raw'), 'raw');
    }
    await committed(now.dir, 'top.qcow2');
    await checkClean(now.path('base.qcow2'));
    await checkNotCorrupt(now.path('top.qcow2'));
  });
});
