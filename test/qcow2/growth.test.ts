// How much a series of writes would make the file grow: never less than it does.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { addBitmap } from '../../src/qcow2/bitmap-edit.ts';
import { alignUp } from '../../src/units.ts';
import { expectSound, memoryImage } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

const SIZE = 400 * 512;

const ranges = fc
  .array(fc.tuple(fc.nat(SIZE - 1), fc.integer({ min: 1, max: 9000 })), { maxLength: 8 })
  .map((list) =>
    list
      .sort(([a], [b]) => a - b)
      .map(([at, length]) => [at, Math.min(length, SIZE - at)] as const)
      // Ascending, not overlapping: as a plan has them.
      .filter(
        ([at], i, all) => i === 0 || at >= Math.max(...all.slice(0, i).map(([a, l]) => a + l)),
      ),
  );

test('nothing to write takes no room', async () => {
  const image = await memoryImage({ size: SIZE, clusterSize: 512 });
  expect(await image.growthCounter(image.size, []).bytes()).toBe(0);
});

test('a cluster is counted once, however many writes touch it', async () => {
  const image = await memoryImage({ size: SIZE, clusterSize: 4096 });
  const once = image.growthCounter(image.size, []);
  await once.addData(0, 4096);
  const often = image.growthCounter(image.size, []);
  for (let at = 0; at < 4096; at += 512) await often.addData(at, 512);
  expect(await often.bytes()).toBe(await once.bytes());
});

test('clusters that are there already take no room', async () => {
  const image = await memoryImage({ size: SIZE, clusterSize: 4096 });
  await image.write(0, pattern(SIZE, 1));
  const counter = image.growthCounter(image.size, []);
  await counter.addData(0, SIZE);
  expect(await counter.bytes()).toBe(0);
});

test('zeros take room for tables alone', async () => {
  const image = await memoryImage({ size: SIZE, clusterSize: 512 });
  const counter = image.growthCounter(image.size, []);
  await counter.addTables(0, SIZE);
  // An L2 table covers 64 clusters: seven of them, and a block of refcounts at most.
  expect(await counter.bytes()).toBe(8 * 512);
});

const shapes = fc.record({
  clusterSize: fc.constantFrom(512, 1024, 4096, 16384),
  refcountBits: fc.constantFrom(1, 16, 64),
});

test('the file grows by no more than was counted', () =>
  fc.assert(
    fc.asyncProperty(shapes, ranges, ranges, async (shape, before, after) => {
      const extendedL2 = shape.clusterSize === 16384;
      const image = await memoryImage({ size: SIZE, ...shape, extendedL2 });
      for (const [at, length] of before) await image.write(at, pattern(length, 1));
      await image.flush();
      // The last cluster is taken whole, though the file may have it in part.
      const end = alignUp(image.storage.size, shape.clusterSize);
      const counter = image.growthCounter(image.size, []);
      for (const [at, length] of after) await counter.addData(at, length);
      const { inFile, beyond } = await image.freeClusters();
      const atMost = await counter.bytes();
      const counted = await counter.bytes(inFile + beyond);
      for (const [at, length] of after) await image.write(at, pattern(length, 2));
      await image.flush();
      await expectSound(image.storage);
      expect(counted).toBeLessThanOrEqual(atMost);
      expect(image.storage.size - end).toBeLessThanOrEqual(counted);
    }),
  ));

test('storing bitmaps makes it grow by no more than was counted', () =>
  fc.assert(
    fc.asyncProperty(shapes, ranges, fc.boolean(), async (shape, after, grows) => {
      const image = await memoryImage({ size: SIZE, ...shape });
      await image.changeBitmaps(async (bitmaps) => {
        for (const granularity of [512, 4096]) {
          addBitmap(bitmaps, image, `${granularity}`, granularity);
        }
      });
      const end = alignUp(image.storage.size, shape.clusterSize);
      const size = grows ? 40 * SIZE : SIZE;
      const growing = image.bitmaps.list.map(({ nameBytes, granularity }) => ({
        nameBytes,
        granularity,
        records: true,
        rewritten: false,
      }));
      const counter = image.growthCounter(size, growing);
      counter.addL1(size);
      for (const [at, length] of after) await counter.addData(at, length);
      const counted = await counter.bytes();
      await image.grow(size);
      for (const [at, length] of after) await image.write(at, pattern(length, 2));
      await image.flush();
      await image.storeBitmaps();
      await expectSound(image.storage);
      expect(image.storage.size - end).toBeLessThanOrEqual(counted);
    }),
  ));

test('free clusters are those that the check counts as unused', async () => {
  const image = await memoryImage({ size: SIZE, clusterSize: 512 });
  await image.write(0, pattern(SIZE, 1));
  await image.flush();
  expect((await image.freeClusters()).inFile).toBe(0);
  await image.zero(0, 100 * 512);
  await image.flush();
  expect((await image.freeClusters()).inFile).toBe(100);
});
