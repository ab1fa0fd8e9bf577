// Sound images of which some table entries are others: whatever is asked of them ends, with the
// answer or with an ImageError.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ImageError } from '../../src/errors.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import { checkImage } from '../../src/qcow2/check.ts';
import { viewOf as dataView } from '../../src/qcow2/fields.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { applySnapshot, createSnapshot, deleteSnapshot } from '../../src/qcow2/snapshot-changes.ts';
import { memoryImage, memoryOf } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

const SIZE = 100 * 512;

const shapes = fc.record({
  version: fc.constantFrom(2 as const, 3 as const),
  refcountBits: fc.constantFrom(1, 8, 16, 64),
});
/** Clusters with tables come first in such a small image. */
const TABLE_BYTES = 6 * 512;
const entry = fc.oneof(
  // A pointer to some cluster of the file or right behind it, with and without flags.
  fc
    .tuple(fc.nat({ max: 20 }), fc.constantFrom(0n, 1n, 1n << 62n, 1n << 63n, (1n << 63n) | 1n))
    .map(([cluster, flags]) => flags | BigInt(cluster * 512)),
  fc.nat({ max: 4 }).map(BigInt),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);
/** Table entries that say something else. Header fields have tests of their own. */
const damage = fc.array(fc.tuple(fc.integer({ min: 13, max: TABLE_BYTES / 8 - 1 }), entry), {
  minLength: 1,
  maxLength: 6,
});
const OPERATIONS = {
  read: (image: Qcow2Image) => image.read(0, new Uint8Array(Math.min(image.size, SIZE))),
  extents: (image: Qcow2Image) => image.extents(0, Math.min(image.size, SIZE)),
  write: (image: Qcow2Image) => image.write(0, pattern(Math.min(image.size, SIZE), 7)),
  zero: (image: Qcow2Image) => image.zero(0, Math.min(image.size, SIZE)),
  grow: (image: Qcow2Image) => image.grow(Math.max(image.size, 2 * SIZE)),
  empty: (image: Qcow2Image) => image.empty(),
  flush: (image: Qcow2Image) => image.flush(),
  check: (image: Qcow2Image) => checkImage(image, () => undefined),
  snapshots: (image: Qcow2Image) => image.snapshots(),
  create: (image: Qcow2Image) => createSnapshot(image, { name: 's', seconds: 1, nanoseconds: 0 }),
  apply: (image: Qcow2Image) => applySnapshot(image, 's'),
  delete: (image: Qcow2Image) => deleteSnapshot(image, 's'),
  free: (image: Qcow2Image) => image.freeClusters(),
} as const;
const operations = fc.array(fc.constantFrom(...Object.values(OPERATIONS)), { maxLength: 4 });

const onlyImageErrors = (error: unknown): void => {
  if (!(error instanceof ImageError)) throw error;
};

test('table entries that say something else', { timeout: 60_000 }, () =>
  fc.assert(
    fc.asyncProperty(shapes, damage, operations, async (shape, changes, asked) => {
      const refcountBits = shape.version === 2 ? 16 : shape.refcountBits;
      const made = await memoryImage({ ...shape, refcountBits, size: SIZE, clusterSize: 512 });
      await made.write(SIZE / 2, pattern(5000, 1));
      if (shape.refcountBits > 1) await OPERATIONS.create(made);
      await made.close();
      const bytes = memoryOf(made).bytes();
      for (const [slot, value] of changes) dataView(bytes).setBigUint64(slot * 8, value);
      const image = await Qcow2Image.open(new MemoryStorage(bytes)).catch(onlyImageErrors);
      if (!image) return;
      for (const ask of asked) await Promise.resolve(ask(image)).catch(onlyImageErrors);
      await image.close().catch(onlyImageErrors);
      expect(image.storage.size).toBeLessThan(2 ** 30);
    }),
    { numRuns: 2000 },
  ),
);
