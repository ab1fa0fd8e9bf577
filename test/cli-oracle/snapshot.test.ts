// snapshot under its own name, and on images that a killed writer left behind.

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { qimg } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { checkClean, run } from '../support/qemu.ts';

test('lists without being asked, and says what there is to do next', async () => {
  const images = new Images();
  await images.create('a.qcow2', '1M', { options: 'refcount_bits=1' });
  const snapshot = (...args: string[]) => qimg(['snapshot', ...args, 'a.qcow2'], images.dir);
  expect(await snapshot()).toEqual({ code: 0, stdout: '', stderr: '' });
  expect(await snapshot('-c', 'empty')).toEqual({ code: 0, stdout: '', stderr: '' });
  const listed = await snapshot();
  expect(listed.stdout).toMatch(/^Snapshot list:\nID .*\n1 {9}empty .* 0 B .*\n$/);
  expect(listed).toEqual(await snapshot('--list', '-f', 'qcow2'));
  const missing = await snapshot('--apply', 'no');
  expect(missing.code).toBe(1);
  expect(missing.stderr).toBe(
    "qimg-ts: Could not apply snapshot 'no': Failed to load snapshot: No such file or directory\n" +
      'qimg-ts snapshot -l a.qcow2 lists them.\n',
  );
  await images.io('a.qcow2', 'write -P 1 0 64k');
  const before = readFileSync(images.path('a.qcow2'));
  const full = await snapshot('--create', 'more');
  expect(full.stderr).toMatch(
    /-22 \(Invalid argument\)\n.*a refcount of 1 bits.*\nDelete a snapshot/,
  );
  expect(readFileSync(images.path('a.qcow2')).equals(before)).toBe(true);
});

test('times are those of the place', async () => {
  const images = new Images();
  await images.create('a.qcow2', '1M');
  await images.qemuImg('snapshot', '-c', 'one', 'a.qcow2');
  for (const TZ of ['UTC', 'Asia/Kathmandu', 'America/St_Johns']) {
    const mine = await qimg(['snapshot', '-l', 'a.qcow2'], images.dir, { TZ });
    const env = { ...process.env, TZ };
    const args = ['snapshot', '-l', 'a.qcow2'];
    expect(mine.stdout).toBe((await run('qemu-img', args, { cwd: images.dir, env })).stdout);
  }
});

test.each([
  ['-c', 'new'],
  ['-a', 'old'],
  ['-d', 'old'],
])(
  '%s on a dirty image: refcounts are rebuilt first, the result is what QEMU makes',
  async (...args) => {
    const images = new Images();
    await images.create('a.qcow2', '8M', { options: 'lazy_refcounts=on,cluster_size=4096' });
    await images.io('a.qcow2', 'write -P 1 0 1M');
    await images.qemuImg('snapshot', '-c', 'old', 'a.qcow2');
    // The abort leaves it as a crash would: dirty, refcounts too low.
    await images.io('a.qcow2', 'write -P 2 512k 1M', 'flush', 'abort').catch(() => undefined);
    const rival = images.copy();
    const words = ['snapshot', ...args, 'a.qcow2'];
    expect(await qimg(words, images.dir)).toEqual({ code: 0, stdout: '', stderr: '' });
    await rival.qemuImg(...words);
    await checkClean(images.path('a.qcow2'));
    expect((await images.view('a.qcow2')).equals(await rival.view('a.qcow2'))).toBe(true);
    const info = async (each: Images) =>
      (await run('qemu-img', ['info', 'a.qcow2'], { cwd: each.dir })).stdout
        .replace(/disk size: .*/, '')
        .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, '');
    expect(await info(images)).toBe(await info(rival));
  },
);
