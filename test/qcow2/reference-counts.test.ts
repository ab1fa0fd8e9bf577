// Counters of references to host clusters.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { geometryOf } from '../../src/qcow2/geometry.ts';
import { clustersPerRange, ReferenceCounts } from '../../src/qcow2/reference-counts.ts';

const ALL = { first: 0, count: Number.POSITIVE_INFINITY };
const geometry = geometryOf(9, 4, false);

describe('a byte range', () => {
  test('adds one reference to each cluster that it touches', () => {
    const counts = new ReferenceCounts(geometry, 10 * 512, ALL);
    expect(counts.add(511, 2, 1)).toBe(true);
    expect(counts.add(1024, 512, 3)).toBe(true);
    expect([...counts.counts]).toEqual([1, 1, 3, 0, 0, 0, 0, 0, 0, 0]);
  });

  test('of no bytes touches nothing', () => {
    const counts = new ReferenceCounts(geometry, 10 * 512, ALL);
    expect(counts.add(512, 0, 1)).toBe(true);
    expect(counts.get(1)).toBe(0);
  });

  test('may end in the part of the last cluster that the file does not have', () => {
    const counts = new ReferenceCounts(geometry, 2 * 512 - 100, ALL);
    expect(counts.end).toBe(2);
    expect(counts.add(512, 512, 1)).toBe(true);
    expect(counts.end).toBe(2);
    expect([...counts.counts]).toEqual([0, 1]);
  });

  test('that ends a cluster or more past the file is not counted at all', () => {
    const counts = new ReferenceCounts(geometry, 2 * 512, ALL);
    expect(counts.add(0, 3 * 512, 1)).toBe(false);
    expect(counts.add(2 ** 52, 512, 1)).toBe(false);
    expect([...counts.counts]).toEqual([0, 0]);
    // The cluster behind an exact end belongs to it once something reaches into it.
    expect(counts.add(512, 512 + 511, 1)).toBe(true);
    expect([...counts.counts]).toEqual([0, 1, 1]);
  });
});

test.each([0, 1, 2, 3, 4, 5, 6])('counts of 2^%d bits stay at the most', (order) => {
  const narrow = geometryOf(9, order, false);
  const most = Math.min(narrow.maxRefcount, 2 ** 32 - 1);
  const counts = new ReferenceCounts(narrow, 512, ALL);
  const told: [number, number][] = [];
  const overflow = (cluster: number, times: number) => void told.push([cluster, times]);
  counts.add(0, 512, most - 1, overflow);
  counts.add(0, 512, 1, overflow);
  expect(told).toEqual([]);
  counts.add(0, 512, 5, overflow);
  expect(told).toEqual([[0, 5]]);
  expect(counts.get(0)).toBe(most);
});

test('ranges of a file count together what one counter of all of it counts', () => {
  const references = fc.array(fc.tuple(fc.nat(30 * 512), fc.nat(3000)), { maxLength: 20 });
  fc.assert(
    fc.property(references, fc.integer({ min: 1, max: 12 }), (list, count) => {
      const size = 25 * 512 + 7;
      const whole = new ReferenceCounts(geometry, size, ALL);
      for (const [offset, length] of list) whole.add(offset, length, 1);
      const parts: number[] = [];
      for (let first = 0; first < whole.end; first += count) {
        const part = new ReferenceCounts(geometry, size, { first, count });
        for (const [offset, length] of list) part.add(offset, length, 1);
        parts.push(...part.counts);
      }
      expect(parts).toEqual([...whole.counts]);
    }),
  );
});

test('as many clusters fit into a range as its bytes hold counters', () => {
  const widths = [0, 3, 4, 5, 6].map((order) => geometryOf(9, order, false));
  expect(widths.map((each) => clustersPerRange(each, 1024))).toEqual([1024, 1024, 512, 256, 256]);
});
