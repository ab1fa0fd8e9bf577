// Commits into images with persistent bitmaps, beside qemu-img on a copy: what it marks, we mark; and
// whoever made the differences afterwards, nothing that differs is called clean.

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type BitmapText, bitmapsIn, changeBitmaps } from '../support/bitmaps.ts';
import { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { checkClean, run } from '../support/qemu.ts';
import { committed, expectRefused } from '../support/refusals.ts';

const SECTOR = 512;
const bitmapsOf = (images: Images, name: string): readonly BitmapText[] =>
  bitmapsIn(readFileSync(images.path(name)));

interface Write {
  readonly command: string;
}

const write = (sectors: number): fc.Arbitrary<Write> =>
  fc
    .tuple(
      fc.constantFrom('write -P 7', 'write -z', 'discard'),
      fc.nat(sectors - 1),
      fc.integer({ min: 1, max: 900 }),
    )
    .map(([verb, at, count]) => ({
      command: `${verb} ${at * SECTOR} ${Math.min(count, sectors - at) * SECTOR}`,
    }));

const scene = fc.record({
  clusterSize: fc.constantFrom(512, 4096, 65536),
  baseMiB: fc.constantFrom(2, 3),
  topMiB: fc.constantFrom(2, 3, 5),
  granularities: fc.array(fc.constantFrom(512, 4096, 65536, 2 ** 20), {
    minLength: 1,
    maxLength: 3,
  }),
  disabled: fc.nat(3),
  below: fc.array(write(4096), { maxLength: 3 }),
  above: fc.array(write(4096), { minLength: 1, maxLength: 4 }),
});

test('random commits: sound, and bitmaps that tell of all that changed', { timeout: 300_000 }, () =>
  fc.assert(
    fc.asyncProperty(scene, async (shape) => {
      const images = new Images();
      const options = `cluster_size=${shape.clusterSize}`;
      await images.create('base.qcow2', `${shape.baseMiB}M`, { options });
      for (const [i, granularity] of shape.granularities.entries()) {
        await images.qemuImg('bitmap', '--add', '-g', `${granularity}`, 'base.qcow2', `b${i}`);
      }
      await images.io('base.qcow2', ...shape.below.map(({ command }) => command));
      if (shape.disabled < shape.granularities.length) {
        await images.qemuImg('bitmap', '--disable', 'base.qcow2', `b${shape.disabled}`);
      }
      await images.create('top.qcow2', `${shape.topMiB}M`, { options, backing: 'base.qcow2' });
      await images.qemuImg('bitmap', '--add', 'top.qcow2', 'of-top');
      await images.io('top.qcow2', ...shape.above.map(({ command }) => command));
      const before = bitmapsOf(images, 'base.qcow2');
      const beforeTop = bitmapsOf(images, 'top.qcow2');
      const old = await images.view('base.qcow2');
      const rival = await images.commitAsQemu('top.qcow2', 'base.qcow2');

      const after = bitmapsOf(images, 'base.qcow2');
      const theirs = bitmapsOf(rival, 'base.qcow2');
      expect(after.map(({ name, flags }) => [name, flags])).toEqual(
        theirs.map(({ name, flags }) => [name, flags]),
      );
      expect(bitmapsOf(images, 'top.qcow2')).toEqual(beforeTop);
      const changed = differingSectors(old, await images.view('base.qcow2'));
      for (const [i, { flags, dirty, granularity }] of after.entries()) {
        if (flags === 0) expect(dirty).toEqual(before[i]?.dirty);
        else {
          const marked = new Set(dirty);
          expect(changed.filter((sector) => !marked.has(sector))).toEqual([]);
          expect(before[i]?.dirty.filter((sector) => !marked.has(sector))).toEqual([]);
          // Its copies go by 64 KiB: in coarser bitmaps the marks are the same.
          if (granularity >= 65536 && shape.clusterSize === 65536) {
            expect(dirty).toEqual(theirs[i]?.dirty);
          }
        }
      }
    }),
    { numRuns: 8 },
  ),
);

function differingSectors(a: Buffer, b: Buffer): readonly number[] {
  const sectors: number[] = [];
  for (let at = 0; at < Math.min(a.length, b.length); at += SECTOR) {
    if (!a.subarray(at, at + SECTOR).equals(b.subarray(at, at + SECTOR))) sectors.push(at / SECTOR);
  }
  return sectors;
}

/** base, mid and top with bitmaps of one name, and others. */
async function chain(): Promise<Images> {
  const images = new Images();
  const names = ['base.qcow2', 'mid.qcow2', 'top.qcow2'];
  for (const [i, name] of names.entries()) {
    const below = names[i - 1];
    await images.create(name, '4M', below === undefined ? {} : { backing: below });
  }
  const add = (name: string, bitmap: string, granularity: string) =>
    images.qemuImg('bitmap', '--add', '-g', granularity, name, bitmap);
  await add('base.qcow2', 'all', '64k');
  await add('base.qcow2', 'off', '64k');
  for (const name of ['mid.qcow2', 'top.qcow2']) await add(name, 'all', '4k');
  await add('top.qcow2', 'new', '512');
  await add('top.qcow2', 'off', '512');
  await add('mid.qcow2', 'low', '64k');
  await images.io('base.qcow2', 'write -P 1 0 64k');
  await images.io('mid.qcow2', 'write -P 2 1M 5k');
  await images.io('top.qcow2', 'write -P 3 2000k 1k', 'write -z 3M 100k');
  await images.qemuImg('bitmap', '--disable', 'base.qcow2', 'off');
  return images;
}

test('--bitmaps: as qemu-img commit and qemu-img bitmap --merge together', async () => {
  const images = await chain();
  const rival = images.copy();
  await rival.qemuImg('commit', '-q', '-b', 'base.qcow2', 'top.qcow2');
  const merge = (from: string, source: string, target: string, ...more: string[]) =>
    rival.qemuImg('bitmap', ...more, '--merge', source, '-b', from, 'base.qcow2', target);
  await merge('mid.qcow2', 'all', 'all');
  await merge('top.qcow2', 'all', 'all');
  await merge('top.qcow2', 'new', 'new', '--add', '-g', '512');
  await merge('top.qcow2', 'off', 'off');

  const args = ['commit', '--bitmaps', '-b', 'base.qcow2', 'top.qcow2'];
  const { code, stderr } = await limited(args, images.dir);
  expect(stderr).toContain("bitmap 'low' of 'mid.qcow2' is not merged");
  expect(code).toBe(0);
  const byName = (list: readonly BitmapText[]) =>
    [...list].sort((a, b) => a.name.localeCompare(b.name));
  expect(byName(bitmapsOf(images, 'base.qcow2'))).toEqual(byName(bitmapsOf(rival, 'base.qcow2')));
  for (const name of ['top.qcow2', 'mid.qcow2']) {
    expect(bitmapsOf(images, name)).toEqual(bitmapsOf(rival, name));
  }
  for (const name of ['base.qcow2', 'mid.qcow2', 'top.qcow2']) await checkClean(images.path(name));
});

test('--bitmaps, planned: named, nothing written', async () => {
  const images = await chain();
  const args = ['commit', '--dry-run', '--output=json', '--bitmaps', '-b', 'base.qcow2'];
  const { stdout } = await limited([...args, 'top.qcow2'], images.dir);
  expect(JSON.parse(stdout)).toMatchObject({
    bitmaps: [
      { name: 'all', from: ['top.qcow2', 'mid.qcow2'], creates: false },
      { name: 'new', from: ['top.qcow2'], creates: true },
      { name: 'off', from: ['top.qcow2'], creates: false },
    ],
    refusals: [],
  });
});

test('--bitmaps into what has none is refused', async () => {
  const images = new Images();
  await images.create('base.raw', '1M');
  await images.create('top.qcow2', '1M', { backing: 'base.raw' });
  await images.qemuImg('bitmap', '--add', 'top.qcow2', 'b');
  await expectRefused(images.dir, ['commit', '--bitmaps', 'top.qcow2'], /can't have bitmaps/);
  await committed(images.dir, 'top.qcow2');
});

test('a bitmap that was not stored stays so and is named, also where base grows', async () => {
  const images = new Images();
  await images.create('base.qcow2', '1M');
  for (const name of ['lost', 'good']) await images.qemuImg('bitmap', '--add', 'base.qcow2', name);
  changeBitmaps(images.path('base.qcow2'), (bytes, { entry }) =>
    bytes.writeUInt32BE(3, entry + 12),
  );
  await images.create('top.qcow2', '1M', { backing: 'base.qcow2' });
  await images.create('long.qcow2', '2M', { backing: 'base.qcow2' });
  await images.io('top.qcow2', 'write -P 9 64k 64k');
  for (const name of ['top.qcow2', 'long.qcow2']) {
    const { code, stderr } = await limited(['commit', '--force', name], images.dir);
    expect(code).toBe(0);
    expect(stderr).toContain("bitmap 'lost' of 'base.qcow2' is inconsistent");
    expect(bitmapsOf(images, 'base.qcow2').map(({ name, flags }) => [name, flags])).toEqual([
      ['lost', 3],
      ['good', 2],
    ]);
    await checkClean(images.path('base.qcow2'));
  }
  const { stdout } = await run('qemu-img', ['info', images.path('base.qcow2')]);
  expect(stdout).toContain('virtual size: 2 MiB');
});
