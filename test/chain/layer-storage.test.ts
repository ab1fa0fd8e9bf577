// The guest's bytes of an image as a storage: the same as bytes in memory, whatever is done to them.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LayerStorage } from '../../src/chain/layer-storage.ts';
import { unguarded } from '../../src/qcow2/guarded-storage.ts';
import type { Qcow2Image } from '../../src/qcow2/image.ts';
import { expectBytes, expectSound, memoryImage } from '../support/memory-images.ts';

const SIZE = 16 * 1024;
const LIMIT = 24 * 1024;

const small = (size: number) => memoryImage({ size, clusterSize: 512, version: 3 });

async function over(image: Qcow2Image): Promise<LayerStorage> {
  return new LayerStorage(image, () => image.close());
}

const step = fc.record({
  kind: fc.constantFrom('write', 'zero', 'discard', 'resize', 'flush'),
  offset: fc.nat(LIMIT - 1),
  length: fc.integer({ min: 1, max: 3000 }),
  byte: fc.integer({ min: 1, max: 255 }),
});

test('it holds what was written, grows, and what was cut off comes back as zeros', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      const image = await small(SIZE);
      const storage = await over(image);
      const model = new Uint8Array(LIMIT);
      for (const { kind, offset, length: wanted, byte } of steps) {
        const length = Math.min(wanted, LIMIT - offset);
        if (kind === 'write') {
          await storage.write(offset, new Uint8Array(length).fill(byte));
          model.fill(byte, offset, offset + length);
        } else if (kind === 'zero') {
          await storage.zero(offset, length);
          model.fill(0, offset, offset + length);
        } else if (kind === 'resize') {
          await storage.resize(offset);
          model.fill(0, offset);
        } else if (kind === 'flush') await storage.flush();
        else await storage.discard();
      }
      const found = new Uint8Array(LIMIT).fill(0xee);
      await storage.read(0, found);
      expectBytes(found, model);
      await storage.flush();
      await expectSound(image.storage);
    }),
    { numRuns: 60 },
  );
});

test('writes past the end at the same time all arrive', async () => {
  const image = await small(1024);
  const storage = await over(image);
  const offsets = [9000, 3000, 20_000, 1500, 12_345];
  await Promise.all(offsets.map((at, i) => storage.write(at, new Uint8Array(700).fill(i + 1))));
  for (const [i, at] of offsets.entries()) {
    const found = new Uint8Array(700);
    await storage.read(at, found);
    expectBytes(found, new Uint8Array(700).fill(i + 1));
  }
  expect(storage.size).toBe(20_992);
});

test('its extents go down to the image below, whose place is not told', async () => {
  const [below, image] = [await small(4096), await small(8192)];
  image.backing = below;
  await below.write(512, new Uint8Array(512).fill(1));
  await below.zero(1024, 512);
  await image.write(3072, new Uint8Array(512).fill(2));
  const storage = await over(image);
  const extents = await storage.extents(0, 8192);
  const shown = extents.map(({ kind, offset, length }) => [kind, offset, length]);
  expect(shown).toEqual([
    ['unallocated', 0, 512],
    ['data', 512, 512],
    ['zero', 1024, 512],
    ['unallocated', 1536, 1536],
    ['data', 3072, 512],
    ['unallocated', 3584, 512],
    ['unallocated', 4096, 4096],
  ]);
  expect(extents[1]).toMatchObject({ host: null });
  expect(extents[4]).toMatchObject({ host: { storage: unguarded(image.storage) } });
  expect(await storage.extentAt(512)).toEqual({ data: true, end: 1024 });
  expect(await storage.extentAt(1024)).toEqual({ data: false, end: 1536 });
});
