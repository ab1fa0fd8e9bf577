// Features of later releases: a commit that would need them names them and writes nothing; the
// image can be described and checked all the same.

import { expect, test } from 'vitest';
import { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { checkClean } from '../support/qemu.ts';
import { committed, contentOf, expectRefused } from '../support/refusals.ts';

interface Feature {
  readonly words: RegExp;
  /** How `info --output=json` tells of it. */
  readonly described: RegExp;
  create(): readonly string[];
}

const FEATURES: Readonly<Record<string, Feature>> = {
  'extended L2 entries': {
    words: /extended L2 entries/,
    described: /"extended-l2": true/,
    create: () => ['-o', 'extended_l2=on'],
  },
};

/** feature.qcow2, which has the feature, over under.qcow2. */
async function withFeature(feature: Feature): Promise<Images> {
  const images = new Images();
  await images.create('under.qcow2', '1M');
  const backing = ['-u', '-b', 'under.qcow2', '-F', 'qcow2'];
  const args = ['-q', '-f', 'qcow2', ...feature.create(), ...backing];
  await images.qemuImg('create', ...args, 'feature.qcow2', '1M');
  await images.create('top.qcow2', '1M', { backing: 'feature.qcow2' });
  return images;
}

test.each(Object.entries(FEATURES))(
  '%s: refused by name in every place, described and checked',
  async (_what, feature) => {
    const images = await withFeature(feature);
    const forms = {
      top: ['feature.qcow2'],
      'top, left as it is': ['-d', 'feature.qcow2'],
      between: ['-b', 'under.qcow2', '--relink', 'top.qcow2'],
      base: ['top.qcow2'],
      'base, forced': ['--force', 'top.qcow2'],
      'base, not done': ['--dry-run', 'top.qcow2'],
    };
    for (const form of Object.values(forms)) {
      const { stderr } = await expectRefused(images.dir, ['commit', ...form], feature.words);
      expect(stderr).toContain("'feature.qcow2'");
    }
    const before = contentOf(images.dir);
    const info = await limited(['info', '--output=json', 'feature.qcow2'], images.dir);
    expect(info.code).toBe(0);
    expect(info.stdout).toMatch(feature.described);
    const check = await limited(['check', 'feature.qcow2'], images.dir);
    expect(check.stdout).toMatch(/^No errors were found on the image\./);
    expect(check.code).toBe(0);
    expect(contentOf(images.dir)).toEqual(before);
  },
);

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
