// The merged view of some layers: what they hold together, the ends of short ones included.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { allocatedIn, type SourceExtent } from '../../src/chain/extents.ts';
import { FakeLayer, type FakeRun } from '../support/fake-layer.ts';

const unallocated = (length: number): FakeRun => ({ kind: 'unallocated', length });
const zero = (length: number): FakeRun => ({ kind: 'zero', length });
const data = (length: number): FakeRun => ({ kind: 'data', length });
const hidden = (length: number): FakeRun => ({ kind: 'data', length, hidden: true });

async function merged(
  layers: readonly FakeLayer[],
  offset = 0,
  length = layers[0]?.size ?? 0,
): Promise<SourceExtent[]> {
  const extents: SourceExtent[] = [];
  for await (const batch of allocatedIn(layers, offset, length)) extents.push(...batch);
  return extents;
}

/** `zero 0+8`, `top 8+4 @1008`. */
const words = (extents: readonly SourceExtent[]) =>
  extents.map((extent) => {
    const range = `${extent.offset}+${extent.length}`;
    if (extent.kind === 'zero') return `zero ${range}`;
    return `${extent.layer.filename} ${range} @${extent.host?.offset ?? 'hidden'}`;
  });

test('what no layer allocates is left out', async () => {
  const top = new FakeLayer('top', [unallocated(10), data(5), unallocated(5)]);
  const mid = new FakeLayer('mid', [unallocated(18), data(2)]);
  expect(words(await merged([top, mid]))).toEqual(['top 10+5 @1010', 'mid 18+2 @1018']);
});

test('an upper layer hides what lies below', async () => {
  const top = new FakeLayer('top', [unallocated(4), zero(4), unallocated(4), data(4)]);
  const mid = new FakeLayer('mid', [data(16)]);
  expect(words(await merged([top, mid]))).toEqual([
    'mid 0+4 @1000',
    'zero 4+4',
    'mid 8+4 @1008',
    'top 12+4 @1012',
  ]);
});

test('past the end of a shorter layer below there are zeros', async () => {
  const top = new FakeLayer('top', [unallocated(12), data(4), unallocated(4)]);
  const mid = new FakeLayer('mid', [unallocated(8)]);
  expect(words(await merged([top, mid]))).toEqual(['zero 8+4', 'top 12+4 @1012', 'zero 16+4']);
});

test('a short layer hides a longer one further down', async () => {
  const top = new FakeLayer('top', [unallocated(16)]);
  const mid = new FakeLayer('mid', [unallocated(4)]);
  const low = new FakeLayer('low', [data(16)]);
  expect(words(await merged([top, mid, low]))).toEqual(['low 0+4 @1000', 'zero 4+12']);
});

test('zeros of different layers that touch are one extent', async () => {
  const top = new FakeLayer('top', [zero(4), unallocated(8), zero(4)]);
  const mid = new FakeLayer('mid', [unallocated(4), zero(4)]);
  expect(words(await merged([top, mid]))).toEqual(['zero 0+16']);
});

test('data is one extent where it lies together, or is read by one layer, and no longer', async () => {
  const contiguous = new FakeLayer('top', [data(4), data(4)]);
  expect(words(await merged([contiguous]))).toEqual(['top 0+8 @1000']);
  const compressed = new FakeLayer('top', [hidden(4), hidden(4), data(4)]);
  expect(words(await merged([compressed]))).toHaveLength(2);
  const top = new FakeLayer('top', [data(4), unallocated(4)]);
  const mid = new FakeLayer('mid', [data(8)]);
  expect(words(await merged([top, mid]))).toEqual(['top 0+4 @1000', 'mid 4+4 @1004']);
});

test('a part of the disk gives that part', async () => {
  const top = new FakeLayer('top', [unallocated(8), data(8)]);
  const mid = new FakeLayer('mid', [data(16)]);
  const part = words(await merged([top, mid], 5, 6));
  expect(part).toEqual(['mid 5+3 @1005', 'top 8+3 @1008']);
});

test('a range that begins past the end of the first layer is zeros', async () => {
  expect(words(await merged([new FakeLayer('top', [data(8)])], 10, 4))).toEqual(['zero 10+4']);
});

test('without layers there is nothing', async () => {
  expect(await merged([], 0, 100)).toEqual([]);
});

test('many extents come in batches', async () => {
  const runs = Array.from({ length: 9000 }, (_, i) => (i % 2 ? data(1) : zero(1)));
  const sizes: number[] = [];
  for await (const batch of allocatedIn([new FakeLayer('top', runs)], 0, 9000)) {
    sizes.push(batch.length);
  }
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(9000);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(2048);
});

const run: fc.Arbitrary<FakeRun> = fc.record({
  kind: fc.constantFrom('unallocated', 'unallocated', 'zero', 'data'),
  length: fc.integer({ min: 1, max: 9 }),
  hidden: fc.boolean(),
});
const stacks = fc.array(
  fc.tuple(fc.array(run, { maxLength: 8 }), fc.constantFrom(1, 2, Number.POSITIVE_INFINITY)),
  { minLength: 1, maxLength: 4 },
);

/** Who answers for a byte: the name of a layer, 'zero', or null for the layers below them all. */
function owner(stack: readonly (readonly FakeRun[])[], at: number): string | null {
  for (const [i, runs] of stack.entries()) {
    let end = 0;
    const found = runs.find(({ length }) => {
      end += length;
      return at < end;
    });
    if (found === undefined || found.kind === 'zero') return 'zero';
    if (found.kind === 'data') return `layer${i}`;
  }
  return null;
}

test('for each byte it says what going down the layers byte by byte says', () =>
  fc.assert(
    fc.asyncProperty(stacks, fc.nat(60), fc.integer({ min: 1, max: 60 }), async (stack, at, n) => {
      const layers = stack.map(([runs, most], i) => new FakeLayer(`layer${i}`, runs, most));
      const seen = new Map<number, string>();
      let end = at;
      for (const extent of await merged(layers, at, n)) {
        expect(extent.offset).toBeGreaterThanOrEqual(end);
        expect(extent.length).toBeGreaterThan(0);
        end = extent.offset + extent.length;
        for (let i = extent.offset; i < end; i++) {
          seen.set(i, extent.kind === 'zero' ? 'zero' : extent.layer.filename);
          if (extent.kind !== 'data' || extent.host === null) continue;
          expect(extent.host.offset + (i - extent.offset)).toBe(1000 + i);
        }
      }
      expect(end).toBeLessThanOrEqual(at + n);
      const model = stack.map(([runs]) => runs);
      for (let i = at; i < at + n; i++) expect(seen.get(i) ?? null).toBe(owner(model, i));
    }),
    { numRuns: 300 },
  ));
