// The forms that make an overlay stand on base: inner layers, further overlays, names of all kinds.

import { existsSync, mkdirSync, renameSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Images } from '../support/images.ts';
import { checkClean, infoOf, qemuImg } from '../support/qemu.ts';
import { committed, contentOf, expectRefused } from '../support/refusals.ts';
import { FIVE, stack } from '../support/stacks.ts';

/** The files of a chain from the top down, as `qemu-img info --backing-chain` finds them. */
async function filesOf(images: Images, top: string): Promise<readonly string[]> {
  const args = ['info', '--backing-chain', '--output=json', images.path(top)];
  const layers = JSON.parse(await qemuImg(...args)) as readonly { readonly filename: string }[];
  return layers.map(({ filename }) => filename.slice(images.dir.length + 1));
}

async function backingOf(images: Images, name: string): Promise<string | undefined> {
  return (await infoOf(images.path(name)))['backing-filename'];
}

/** The views through some images before, and the proof that they are the same after. */
async function viewsOf(images: Images, ...names: readonly string[]) {
  const before = new Map<string, Buffer>();
  for (const name of names) before.set(name, await images.view(name));
  return async () => {
    for (const [name, view] of before) {
      expect((await images.view(name)).equals(view), `the view through ${name}`).toBe(true);
      await checkClean(images.path(name));
    }
  };
}

/** base <- sn1 <- sn2 <- sn3 <- sn4, and beside sn4: o1, and o2, which is longer. */
async function branched(): Promise<Images> {
  const images = await stack(FIVE);
  await images.create('o1.qcow2', '8M', { backing: 'sn3.qcow2' });
  await images.io('o1.qcow2', 'write -P 50 256k 512k');
  await images.create('o2.qcow2', '12M', { backing: 'sn3.qcow2' });
  await images.io('o2.qcow2', 'write -P 60 1M 512k', 'write -P 61 11M 512k');
  return images;
}

test('--top with every overlay: all stand on base afterwards and show what they showed', async () => {
  const images = await branched();
  const expectSame = await viewsOf(images, 'sn4.qcow2', 'o1.qcow2', 'o2.qcow2');
  const merged = await images.view('sn3.qcow2');
  const { 'base.qcow2': below } = contentOf(images.dir);
  const overlays = ['--overlay', 'o1.qcow2', '--overlay', 'o2.qcow2'];
  const range = ['--top', 'sn3.qcow2', '-b', 'sn1.qcow2'];
  const { stderr } = await committed(images.dir, ...range, ...overlays, '--delete', 'sn4.qcow2');
  expect(stderr.split('\n')).toEqual([
    "qimg-ts: 'o1.qcow2' now has the backing file 'sn1.qcow2'",
    "qimg-ts: 'o2.qcow2' now has the backing file 'sn1.qcow2'",
    "qimg-ts: 'sn4.qcow2' now has the backing file 'sn1.qcow2'",
    "qimg-ts: deleted: 'sn3.qcow2', 'sn2.qcow2'",
    '',
  ]);
  for (const top of ['sn4.qcow2', 'o1.qcow2', 'o2.qcow2']) {
    expect(await filesOf(images, top)).toEqual([top, 'sn1.qcow2', 'base.qcow2']);
    expect((await infoOf(images.path(top)))['backing-filename-format']).toBe('qcow2');
  }
  expect(existsSync(images.path('sn2.qcow2')) || existsSync(images.path('sn3.qcow2'))).toBe(false);
  expect(contentOf(images.dir)['base.qcow2']).toBe(below);
  expect((await images.view('sn1.qcow2')).equals(merged)).toBe(true);
  await expectSame();
});

test('--top without --delete: the merged layers stay, byte for byte', async () => {
  const images = await stack(FIVE);
  const expectSame = await viewsOf(images, 'sn4.qcow2');
  const before = contentOf(images.dir);
  const range = ['--top', 'sn3.qcow2', '-b', 'sn1.qcow2'];
  const { stderr } = await committed(images.dir, ...range, 'sn4.qcow2');
  expect(stderr).toContain("no longer needed: 'sn3.qcow2', 'sn2.qcow2'");
  await expectSame();
  const after = contentOf(images.dir);
  for (const name of ['sn2.qcow2', 'sn3.qcow2', 'base.qcow2']) {
    expect(after[name]).toBe(before[name]);
  }
});

test('--top and no -b: one layer goes into the one below', async () => {
  const images = await stack(FIVE);
  const expectSame = await viewsOf(images, 'sn4.qcow2', 'sn3.qcow2');
  await committed(images.dir, '--top', 'sn2.qcow2', '--delete', 'sn4.qcow2');
  const left = ['sn4.qcow2', 'sn3.qcow2', 'sn1.qcow2', 'base.qcow2'];
  expect(await filesOf(images, 'sn4.qcow2')).toEqual(left);
  await expectSame();
});

test('--relink of a top whose backing file is base already changes no pointer', async () => {
  const images = await stack(['base.qcow2', 'top.qcow2']);
  const expectSame = await viewsOf(images, 'top.qcow2');
  const { 'top.qcow2': top } = contentOf(images.dir);
  await committed(images.dir, '-b', 'base.qcow2', '--relink', 'top.qcow2');
  expect(contentOf(images.dir)['top.qcow2']).toBe(top);
  await expectSame();
});

interface Place {
  readonly name: string;
  /** Directory and backing name of base, mid and top; the names of base and mid for `-b`. */
  readonly files: readonly [string, string, string];
  readonly backing: (dir: string) => readonly [string, string];
  readonly expected: (dir: string) => string;
}

const PLACES: readonly Place[] = [
  {
    name: 'names with spaces, quotes and umlauts',
    files: ["it's the base.qcow2", 'mid "1".qcow2', 'großer top.qcow2'],
    backing: () => ["it's the base.qcow2", 'mid "1".qcow2'],
    expected: () => "it's the base.qcow2",
  },
  {
    name: 'three directories',
    files: ['a/base.qcow2', 'b/x/mid.qcow2', 'c/y/z/top.qcow2'],
    backing: () => ['../../a/base.qcow2', '../../../b/x/mid.qcow2'],
    expected: () => '../../../a/base.qcow2',
  },
  {
    name: 'top above base',
    files: ['a/b/base.qcow2', 'a/mid.qcow2', 'top.qcow2'],
    backing: () => ['b/base.qcow2', 'a/mid.qcow2'],
    expected: () => 'a/b/base.qcow2',
  },
  {
    name: 'absolute names',
    files: ['a/base.qcow2', 'b/mid.qcow2', 'c/top.qcow2'],
    backing: (dir) => [join(dir, 'a/base.qcow2'), join(dir, 'b/mid.qcow2')],
    expected: (dir) => join(dir, 'a/base.qcow2'),
  },
  {
    name: 'an absolute name above a relative one',
    files: ['a/base.qcow2', 'b/mid.qcow2', 'c/top.qcow2'],
    backing: (dir) => ['../a/base.qcow2', join(dir, 'b/mid.qcow2')],
    expected: (dir) => join(dir, 'a/base.qcow2'),
  },
  {
    name: 'a colon in the name of a directory',
    files: ['./a:b/base.qcow2', 'mid.qcow2', 'top.qcow2'],
    backing: () => ['./a:b/base.qcow2', 'mid.qcow2'],
    expected: () => './a:b/base.qcow2',
  },
];

test.each(PLACES)('--relink: $name', async ({ files, backing, expected }) => {
  const images = new Images();
  const [base, mid, top] = files;
  const [belowMid, belowTop] = backing(images.dir);
  for (const file of files) mkdirSync(join(images.path(file), '..'), { recursive: true });
  await images.create(base, '4M');
  await images.io(base, 'write -P 1 0 1M');
  await images.create(mid, '4M', { backing: belowMid });
  await images.io(mid, 'write -P 2 512k 1M');
  await images.create(top, '4M', { backing: belowTop });
  await images.io(top, 'write -P 3 1M 1M');
  const expectSame = await viewsOf(images, top);
  await committed(images.dir, '-b', join(images.dir, base), '--relink', '--delete', top);
  expect(await backingOf(images, top)).toBe(expected(images.dir));
  expect(existsSync(images.path(mid))).toBe(false);
  await expectSame();
  await checkClean(images.path(base));
});

test('the top, the layer between and base are links to files elsewhere: the links stay', async () => {
  const images = await stack(['base.qcow2', 'mid.qcow2', 'top.qcow2']);
  const expectSame = await viewsOf(images, 'top.qcow2');
  mkdirSync(images.path('real'));
  for (const name of ['base', 'mid', 'top']) {
    renameSync(images.path(`${name}.qcow2`), images.path(`real/${name}-1.qcow2`));
    symlinkSync(`real/${name}-1.qcow2`, images.path(`${name}.qcow2`));
  }
  await committed(images.dir, '-b', 'base.qcow2', '--relink', 'top.qcow2');
  expect(await backingOf(images, 'top.qcow2')).toBe('base.qcow2');
  expect(contentOf(images.dir)['top.qcow2']).toBe('-> real/top-1.qcow2');
  await expectSame();
});

test('-b by a link, by an absolute name and by ./ means the layer itself', async () => {
  for (const how of ['link', 'absolute', 'dot']) {
    const images = await stack(['base.qcow2', 'mid.qcow2', 'top.qcow2']);
    symlinkSync('base.qcow2', images.path('alias.qcow2'));
    const names = { link: 'alias.qcow2', absolute: images.path('base.qcow2'), dot: './base.qcow2' };
    const expectSame = await viewsOf(images, 'top.qcow2');
    await committed(images.dir, '-b', names[how as keyof typeof names], '--relink', 'top.qcow2');
    expect(await backingOf(images, 'top.qcow2')).toBe('base.qcow2');
    await expectSame();
  }
});

test('a raw base: the format is stored with the name', async () => {
  const images = await stack(['base.raw', 'mid.qcow2', 'top.qcow2']);
  const expectSame = await viewsOf(images, 'top.qcow2');
  await committed(images.dir, '-b', 'base.raw', '--relink', '--delete', 'top.qcow2');
  expect(await infoOf(images.path('top.qcow2'))).toMatchObject({
    'backing-filename': 'base.raw',
    'backing-filename-format': 'raw',
  });
  await expectSame();
});

test('a name of base that is too long for the overlay: refused before anything is written', async () => {
  const images = new Images();
  // With clusters of 512 bytes the header has room for a shorter name alone.
  const deep = join('d'.repeat(120), 'e'.repeat(120), 'f'.repeat(120), 'g'.repeat(120));
  mkdirSync(images.path(deep), { recursive: true });
  const base = join(deep, 'base.qcow2');
  await images.create(base, '1M');
  await images.create('mid.qcow2', '1M', { backing: base });
  await images.create('top.qcow2', '1M', {
    backing: 'mid.qcow2',
    options: 'cluster_size=512',
  });
  await images.io('top.qcow2', 'write -P 1 0 64k');
  const args = ['commit', '-b', base, '--relink', 'top.qcow2'];
  await expectRefused(images.dir, args, /'?top\.qcow2/);
});

test.each<[string, RegExp]>([
  ['--top sn3.qcow2 -b sn1.qcow2 --overlay base.qcow2 sn4.qcow2', /base\.qcow2/],
  ['--top sn3.qcow2 -b sn1.qcow2 --overlay sn2.qcow2 sn4.qcow2', /sn2\.qcow2/],
  ['--top sn2.qcow2 -b base.qcow2 --overlay o1.qcow2 sn4.qcow2', /'o1\.qcow2' is not 'sn2\.qcow2'/],
  ['--top sn3.qcow2 -b sn1.qcow2 --overlay loose.raw sn4.qcow2', /'loose\.raw'/],
  ['--top sn4.qcow2 -b sn1.qcow2 --delete sn4.qcow2', /--delete/],
])('refused, nothing changed: commit %s', async (line, words) => {
  const images = await branched();
  await images.create('loose.raw', '1M');
  await expectRefused(images.dir, ['commit', ...line.split(' ')], words);
});

test('--delete removes the name that the chain uses', async () => {
  const images = await stack(['base.qcow2', 'mid.qcow2', 'top.qcow2']);
  mkdirSync(images.path('store'));
  renameSync(images.path('mid.qcow2'), images.path('store/mid.qcow2'));
  symlinkSync('store/mid.qcow2', images.path('mid.qcow2'));
  const expectSame = await viewsOf(images, 'top.qcow2');
  await committed(images.dir, '-b', 'base.qcow2', '--relink', '--delete', 'top.qcow2');
  await expectSame();
  // The name in the chain goes; what it stood for is not ours to judge.
  expect(existsSync(images.path('mid.qcow2'))).toBe(false);
});
