// Features of later releases: a commit that would need them names them and writes nothing; the
// image can be described and checked all the same.

import { expect, test } from 'vitest';
import { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { checkClean } from '../support/qemu.ts';
import { committed, expectRefused } from '../support/refusals.ts';

const NAMES = ['base', 'mid', 'top'] as const;

async function withBitmap(where: string): Promise<Images> {
  const images = new Images();
  for (const [i, name] of NAMES.entries()) {
    const below = NAMES[i - 1];
    await images.create(`${name}.qcow2`, '1M', below ? { backing: `${below}.qcow2` } : {});
    await images.io(`${name}.qcow2`, `write -P ${i + 1} ${i * 128}k 256k`);
  }
  await images.qemuImg('bitmap', '--add', `${where}.qcow2`, 'dirty');
  return images;
}

test('persistent bitmaps in base: refused by name, described and checked', async () => {
  const images = await withBitmap('base');
  for (const form of [[], ['--force'], ['--relink']]) {
    const args = ['commit', '-b', 'base.qcow2', ...form, 'top.qcow2'];
    const { stderr } = await expectRefused(images.dir, args, /persistent bitmaps/);
    expect(stderr).toContain('base.qcow2');
  }
  const dry = await limited(['commit', '--dry-run', '-b', 'base.qcow2', 'top.qcow2'], images.dir);
  expect(dry.code).toBe(1);
  expect(dry.stdout).toMatch(/^refused: .*persistent bitmaps/m);
  const info = await limited(['info', '--output=json', 'base.qcow2'], images.dir);
  expect(info.stdout).toMatch(/"name": "dirty"/);
  expect((await limited(['check', 'base.qcow2'], images.dir)).code).toBe(0);
});

test('a base with persistent bitmaps below the one that is written to does not matter', async () => {
  const images = await withBitmap('base');
  const view = await images.view('top.qcow2');
  await committed(images.dir, 'top.qcow2');
  expect((await images.view('mid.qcow2')).equals(view)).toBe(true);
});

test.each(['mid', 'top'])('persistent bitmaps in %s, whose view stays: kept', async (where) => {
  const images = await withBitmap(where);
  const view = await images.view('top.qcow2');
  // A layer between is not written to; the top is emptied, or relinked, or left.
  const form = where === 'mid' ? ['-b', 'base.qcow2', '--relink'] : [];
  await committed(images.dir, ...form, 'top.qcow2');
  expect((await images.view('top.qcow2')).equals(view)).toBe(true);
  for (const name of NAMES) await checkClean(images.path(`${name}.qcow2`));
  const info = await limited(['info', '--output=json', `${where}.qcow2`], images.dir);
  expect(info.stdout).toMatch(/"name": "dirty"/);
});
