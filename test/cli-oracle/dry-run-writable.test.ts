// A dry run exits 1 and lists the reason where the commit would be refused because it can't write.

import { spawn } from 'node:child_process';
import { expect, test } from 'vitest';
import { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { remount, smallDisk, whyNoMounts } from '../support/mounts.ts';
import { stack, TWO } from '../support/stacks.ts';

const reason = whyNoMounts();
const onReadOnly = reason === undefined ? test : test.skip;

/** The dry run and the real commit agree on whether it can be done. */
async function expectBothRefuse(images: Images): Promise<void> {
  const real = await limited(['commit', 'top.qcow2'], images.dir);
  expect(real.code).toBe(1);
  const dry = await limited(['commit', '--dry-run', 'top.qcow2'], images.dir);
  expect(dry.code, dry.stdout).toBe(1);
}

onReadOnly(`a read-only file system${reason === undefined ? '' : ` (${reason})`}`, async () => {
  const images = new Images(smallDisk(8 * 1024 * 1024));
  await stack(TWO, { images });
  remount(images.dir, 'ro');
  await expectBothRefuse(images);
});

test('a base that another process reads', async () => {
  const images = await stack(TWO);
  const holder = spawn('qemu-io', ['-r', '-f', 'qcow2', images.path('base.qcow2')]);
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  const ended = new Promise((resolve) => holder.once('exit', resolve));
  try {
    await expectBothRefuse(images);
  } finally {
    holder.stdin.end('quit\n');
    await ended;
  }
});
