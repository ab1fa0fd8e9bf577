// Sizes, indexes and counts that follow from cluster size and refcount width.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  clusterIndexOf,
  geometryOf,
  l1EntriesFor,
  l1IndexOf,
  l2IndexOf,
  refcountTableIndexOf,
} from '../../src/qcow2/geometry.ts';

const geometries = fc
  .tuple(fc.integer({ min: 9, max: 21 }), fc.integer({ min: 0, max: 6 }), fc.boolean())
  .map(([clusterBits, order, extended]) => geometryOf(clusterBits, order, extended));

test('the usual image: 64 KiB clusters and refcounts of 16 bits', () => {
  expect(geometryOf(16, 4, false)).toEqual({
    externalData: false,
    clusterBits: 16,
    clusterSize: 65536,
    extendedL2: false,
    subclusterSize: 65536,
    l2EntryBytes: 8,
    l2Entries: 8192,
    l2Coverage: 512 * 1024 * 1024,
    refcountOrder: 4,
    refcountBits: 16,
    refcountBlockEntries: 32768,
    maxRefcount: 65535,
  });
});

test('extended L2 entries take twice the room', () => {
  expect(geometryOf(16, 4, true)).toMatchObject({
    l2EntryBytes: 16,
    l2Entries: 4096,
    subclusterSize: 2048,
  });
});

test('the largest refcount fits its width, and a number holds it exactly', () => {
  const largest = [0, 1, 2, 3, 4, 5, 6].map((order) => geometryOf(16, order, false).maxRefcount);
  expect(largest).toEqual([1, 3, 15, 255, 65535, 2 ** 32 - 1, Number.MAX_SAFE_INTEGER]);
});

test('indexes take an offset apart without loss, for all safe integers', () => {
  fc.assert(
    fc.property(geometries, fc.maxSafeNat(), (geometry, offset) => {
      const { clusterSize, l2Coverage } = geometry;
      const l1 = l1IndexOf(offset, geometry);
      const l2 = l2IndexOf(offset, geometry);
      expect(l2).toBeLessThan(geometry.l2Entries);
      const start = l1 * l2Coverage + l2 * clusterSize;
      expect(start).toBeLessThanOrEqual(offset);
      expect(offset - start).toBeLessThan(clusterSize);
      expect(start).toBe(clusterIndexOf(offset, geometry) * clusterSize);
    }),
  );
});

test('the L1 table covers the disk, and not one entry more', () => {
  fc.assert(
    fc.property(geometries, fc.nat({ max: 2 ** 45 }), (geometry, size) => {
      const entries = l1EntriesFor(size, geometry);
      expect(entries * geometry.l2Coverage).toBeGreaterThanOrEqual(size);
      if (entries > 0) expect((entries - 1) * geometry.l2Coverage).toBeLessThan(size);
    }),
  );
});

test('a refcount block covers as many clusters as it has entries', () => {
  fc.assert(
    fc.property(geometries, fc.nat({ max: 2 ** 40 }), (geometry, cluster) => {
      const index = refcountTableIndexOf(cluster, geometry);
      const first = index * geometry.refcountBlockEntries;
      expect(cluster).toBeGreaterThanOrEqual(first);
      expect(cluster - first).toBeLessThan(geometry.refcountBlockEntries);
      expect(geometry.refcountBlockEntries * geometry.refcountBits).toBe(geometry.clusterSize * 8);
    }),
  );
});
