// What layers hold and hide: against a byte model, with holes in what can be read, and at scale.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type HeldKind, type Source, visitHoldings } from '../../src/chain/holdings.ts';
import { Strip, seenIn } from '../../src/chain/strip.ts';
import { ImageError } from '../../src/errors.ts';
import { FakeLayer, type FakeRun } from '../support/fake-layer.ts';

const sourceOf = (layer: FakeLayer): Source => ({
  size: layer.size,
  clusterSize: layer.clusterSize,
  extents: (offset, length) => layer.extents(offset, length),
});

interface Told {
  readonly index: number;
  readonly kind: HeldKind;
  readonly from: number;
  readonly to: number;
  readonly hidden: boolean;
}

async function tell(sources: readonly Source[]): Promise<{ told: Told[]; failures: number[] }> {
  const told: Told[] = [];
  const failures: number[] = [];
  await visitHoldings(sources, {
    held: (index, kind, from, to, hidden) => told.push({ index, kind, from, to, hidden }),
    failed: (index) => failures.push(index),
  });
  return { told, failures };
}

const layer = fc
  .array(
    fc.record({
      kind: fc.constantFrom('unallocated', 'zero', 'data'),
      length: fc.integer({ min: 1, max: 40 }),
    }) satisfies fc.Arbitrary<FakeRun>,
    { minLength: 1, maxLength: 12 },
  )
  .chain((runs) => fc.nat(3).map((most) => new FakeLayer('fake', runs, most + 1)));

test('each byte is told once, in order, and hidden where a layer above has or ends', () =>
  fc.assert(
    fc.asyncProperty(fc.array(layer, { minLength: 1, maxLength: 5 }), async (layers) => {
      const { told } = await tell(layers.map(sourceOf));
      const seen = layers.map((each) => new Array<string>(each.size).fill('-'));
      for (const { index, kind, from, to, hidden } of told) {
        for (let at = from; at < to; at++) {
          expect(seen[index]?.[at]).toBe('-');
          (seen[index] as string[])[at] = `${kind}${hidden ? ' hidden' : ''}`;
        }
      }
      const own = await Promise.all(layers.map(kindsOf));
      for (const [index, kinds] of own.entries()) {
        const expected = kinds.map((kind, at) => {
          if (kind === 'unallocated') return '-';
          const above = own.slice(0, index);
          const hidden = above.some((other) => (other[at] ?? 'ended') !== 'unallocated');
          return `${kind}${hidden ? ' hidden' : ''}`;
        });
        expect(seen[index]).toEqual(expected);
      }
    }),
  ));

async function kindsOf(layer: FakeLayer): Promise<string[]> {
  const kinds: string[] = [];
  while (kinds.length < layer.size) {
    for (const { kind, length } of await layer.extents(kinds.length, layer.size - kinds.length)) {
      kinds.push(...new Array<string>(length).fill(kind));
    }
  }
  return kinds;
}

test('what can not be read is unknown, and only that', async () => {
  const sound = new FakeLayer('fake', [{ kind: 'data', length: 2048 }]);
  const broken: Source = {
    ...sourceOf(sound),
    extents: async (offset, length) => {
      if (offset < 1000 && offset + length > 998) throw new ImageError('corrupt', 'bad table');
      return sound.extents(offset, length);
    },
  };
  const { told, failures } = await tell([broken]);
  const unknown = told.filter(({ kind }) => kind === 'unknown');
  const bytes = unknown.reduce((sum, { from, to }) => sum + to - from, 0);
  expect(failures.length).toBeGreaterThan(0);
  expect(unknown[0]?.from).toBeLessThanOrEqual(998);
  expect(unknown.at(-1)?.to).toBeGreaterThanOrEqual(1000);
  expect(told[0]?.from).toBe(0);
  expect(told.at(-1)).toMatchObject({ kind: 'data', to: 2048 });
  expect(bytes).toBeLessThanOrEqual(1000);
});

test('a bug is no damage: it gets through', async () => {
  const source: Source = {
    size: 10,
    clusterSize: 1,
    extents: () => Promise.reject(new TypeError('bug')),
  };
  await expect(tell([source])).rejects.toThrow('bug');
});

test('200 layers, each other cluster of a large disk: bounded, and sums are right', async () => {
  const runs = Array.from({ length: 2000 }, (_, i): FakeRun => {
    return { kind: i % 2 ? 'data' : 'unallocated', length: 2 ** 33 };
  });
  const one = new FakeLayer('fake', runs, 64);
  const strips = Array.from({ length: 200 }, () => new Strip(one.size, 60));
  await visitHoldings(
    strips.map(() => sourceOf(one)),
    {
      held: (index, kind, from, to, hidden) => strips[index]?.add(kind, from, to, hidden),
    },
  );
  const data = 1000 * 2 ** 33;
  expect(strips[0]?.held).toMatchObject({ data, hiddenData: 0 });
  expect(strips[199]?.held).toMatchObject({ data, hiddenData: data });
  expect(seenIn(strips, 3)).toEqual(expect.objectContaining({ kind: 'data', layer: 0 }));
});

test('cells: whole sectors, never more than asked for, none without a disk', () => {
  expect(new Strip(0, 60).length).toBe(0);
  expect(new Strip(512, 60).length).toBe(1);
  expect(new Strip(16 * 2 ** 40, 61).length).toBeLessThanOrEqual(61);
  const strip = new Strip(10_240, 10);
  strip.add('data', 1000, 3000, false);
  expect(strip.cell(0)).toMatchObject({ data: 24, from: 1000, to: 1024 });
  expect(strip.cell(2)).toMatchObject({ data: 952, from: 2048, to: 3000 });
});
