import fc from 'fast-check';
import { expect, test } from 'vitest';
import { OffsetCounts } from '../../src/qcow2/offset-counts.ts';

test('counts as a map does', () => {
  const offset = fc.oneof(
    fc.nat(100),
    fc.maxSafeNat(),
    fc.nat(5000).map((n) => n * 65536),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(offset, fc.nat(9))), (added) => {
      const counts = new OffsetCounts();
      const model = new Map<number, number>();
      for (const [at, count] of added) {
        model.set(at, (model.get(at) ?? 0) + count);
        expect(counts.add(at, count)).toBe(model.get(at));
      }
      expect(new Map(counts)).toEqual(model);
      expect(counts.get(-2)).toBe(0);
    }),
    { seed: 1 },
  );
});

test('offsets that follow each other by clusters of any size stay quick to find', () => {
  for (const step of [512, 65536, 2 * 1024 * 1024]) {
    const counts = new OffsetCounts();
    for (let i = 0; i < 50_000; i++) counts.add(i * step);
    expect([...counts].length).toBe(50_000);
    expect(counts.get(49_999 * step)).toBe(1);
  }
});
