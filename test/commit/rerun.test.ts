// What an interrupted commit left, and the same command run again.
//
// After a commit with relink the layers between are dead, but they still stand on the base: that
// does not keep the same commit, run again as the hint of an interrupted one advises, from ending.

import { expect, test } from 'vitest';
import { commit } from '../../src/commit/commit.ts';
import { ImageError } from '../../src/errors.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { addBitmap } from '../../src/qcow2/bitmap-edit.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { addChain, addImage, DISK } from '../support/named-images.ts';
import { WatchedHost } from '../support/watched-host.ts';

test('a commit whose very last flush failed can be run again', async () => {
  const host = new WatchedHost();
  await addChain(host, '/base', '/mid', '/top');
  let switched = false;
  host.watch = (change) => {
    if (change.filename !== '/top') return;
    if (change.kind === 'write' && change.offset === 0) switched = true;
    if (switched && change.kind === 'flush') {
      throw new ImageError('io', 'broken', { errno: 'EIO' });
    }
  };
  const form = { host, base: '/base', relink: true };
  await expect(commit('/top', form)).rejects.toMatchObject({
    hint: expect.stringContaining('the same command completes the commit'),
  });
  host.watch = () => undefined;
  await commit('/top', form);
});

test('a commit that was stopped while it removed files finds those that are left', async () => {
  const host = new MemoryHost();
  await addChain(host, '/base', '/one', '/two', '/three', '/top');
  const form = { host, top: '/three', base: '/base', delete: true };
  let removals = 0;
  host.remove = async (filename) => {
    if (removals++ === 1) throw new ImageError('io', 'broken', { errno: 'EIO' });
    await MemoryHost.prototype.remove.call(host, filename);
  };
  await expect(commit('/top', form)).rejects.toThrow('broken');
  const { plan } = await commit('/top', form);
  expect(plan.deletes).toEqual(['/three', '/two']);
  for (const name of ['/one', '/two', '/three']) expect(host.fileBytes(name)).toBeUndefined();
});

test('a chain that never stood on base is not taken for what an earlier run left', async () => {
  const host = new MemoryHost();
  await addChain(host, '/base', '/top');
  await addChain(host, '/other', '/overlay');
  const form = { host, top: '/overlay', base: '/base', delete: true };
  await expect(commit('/top', form)).rejects.toThrow(/Did not find/);
  expect(host.fileBytes('/overlay')).toBeDefined();
});

test('a base that was growing when it was stopped, its bitmaps inconsistent, is grown all the same', async () => {
  const host = new MemoryHost();
  await addImage(host, '/base');
  const storage = await host.openStorage('/base', { writable: true });
  const base = await Qcow2Image.open(storage);
  await base.changeBitmaps(async (bitmaps) => addBitmap(bitmaps, base, 'b'));
  // Never closed: the bitmap stays in use.
  await base.write(0, new Uint8Array(512).fill(1));
  await base.flush();
  const below = { backingFile: 'base', backingFormat: 'qcow2' };
  await addImage(host, '/top', { ...below, size: 3 * DISK });
  // As qemu-img it is refused, as QEMU does.
  await expect(commit('/top', { host, skipAdvice: true })).rejects.toThrow(/inconsistent/);
  const { plan } = await commit('/top', { host });
  expect(plan.newBaseSize).toBe(3 * DISK);
  expect(plan.bitmapsLeft).toEqual([expect.stringMatching(/'b' of '\/base' is inconsistent/)]);
});
