// An image with an internal snapshot: whatever is done to its active state, the snapshot keeps what
// it shows, and the refcounts stay right.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import {
  expectBytes,
  expectSound,
  memoryImage,
  memoryOf,
  viewOf,
} from '../support/memory-images.ts';
import { atSnapshot, withSnapshot } from '../support/snapshots.ts';
import { pattern } from '../support/storage-contract.ts';

const SIZE = 100 * 512;

async function imageWithSnapshot(version: 2 | 3, extendedL2 = false): Promise<MemoryStorage> {
  const clusterSize = extendedL2 ? 16384 : 512;
  const image = await memoryImage({ size: SIZE, clusterSize, version, extendedL2 });
  await image.write(1000, pattern(30_000, 1));
  if (version === 3) await image.zero(5000, 3000);
  await image.close();
  return new MemoryStorage(withSnapshot(memoryOf(image).bytes()));
}

async function snapshotView(storage: MemoryStorage): Promise<Uint8Array> {
  return viewOf(await Qcow2Image.open(new MemoryStorage(atSnapshot(storage.bytes()))));
}

const operation = fc.record({
  kind: fc.constantFrom('write', 'write', 'zero', 'flush', 'reopen', 'empty'),
  at: fc.nat({ max: SIZE - 1 }),
  length: fc.integer({ min: 1, max: 6000 }),
});
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

async function apply(image: Qcow2Image, model: Uint8Array, op: Operation, seed: number) {
  const length = Math.min(op.length, SIZE - op.at);
  if (op.kind === 'empty') {
    await image.empty();
    model.fill(0);
  } else if (op.kind === 'zero') {
    await image.zero(op.at, length);
    model.fill(0, op.at, op.at + length);
  } else if (op.kind === 'write') {
    await image.write(op.at, pattern(length, seed));
    model.set(pattern(length, seed), op.at);
  } else await image.flush();
}

test.each([2, 3] as const)('the one made by hand is sound, version %d', async (version) => {
  const storage = await imageWithSnapshot(version);
  await expectSound(storage);
  const image = await Qcow2Image.open(storage);
  expect(await image.snapshots()).toMatchObject([{ l1Size: 2, diskSize: SIZE }]);
  expectBytes(await snapshotView(storage), await viewOf(image));
});

test.each([
  ['version 2', 2, false],
  ['version 3', 3, false],
  ['extended L2 entries', 3, true],
] as const)('%s: the snapshot stays, the active state changes', (_what, version, extendedL2) =>
  fc.assert(
    fc.asyncProperty(fc.array(operation, { maxLength: 10 }), async (operations) => {
      const storage = await imageWithSnapshot(version, extendedL2);
      const before = await snapshotView(storage);
      const model = before.slice();
      let image = await Qcow2Image.open(storage, { cacheBytes: 0 });
      for (const [seed, op] of operations.entries()) {
        await apply(image, model, op, seed + 2);
        expectBytes(await viewOf(image), model, op.kind);
        if (op.kind !== 'reopen') continue;
        await image.close();
        image = await Qcow2Image.open(storage, { cacheBytes: 0 });
      }
      await image.close();
      await expectSound(storage);
      expectBytes(await snapshotView(storage), before, 'the snapshot');
    }),
    { numRuns: 60 },
  ),
);

test('a version 2 image with a snapshot can not be resized, one of version 3 can', async () => {
  const old = await Qcow2Image.open(await imageWithSnapshot(2));
  await expect(old.grow(2 * SIZE)).rejects.toMatchObject({ code: 'unsupported' });
  const storage = await imageWithSnapshot(3);
  const before = await snapshotView(storage);
  const image = await Qcow2Image.open(storage);
  await image.grow(2 * SIZE);
  await image.close();
  await expectSound(storage);
  const shown = await viewOf(await Qcow2Image.open(new MemoryStorage(atSnapshot(storage.bytes()))));
  expectBytes(shown.subarray(0, SIZE), before);
});
