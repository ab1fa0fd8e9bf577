// From extents to steps: in order, gapless, shaped to base's clusters, bounded.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { SourceExtent } from '../../src/chain/extents.ts';
import { type PlanShape, type PlanStep, planSteps, slice } from '../../src/commit/plan.ts';
import { KIB, MIB } from '../../src/units.ts';
import { FakeLayer } from '../support/fake-layer.ts';

const LAYER = new FakeLayer('top', []);
const FAR = 2 ** 40;

const zero = (offset: number, length: number): SourceExtent => ({ kind: 'zero', offset, length });
const data = (offset: number, length: number): SourceExtent => {
  const host = { storage: LAYER.storage, offset: FAR + offset };
  return { kind: 'data', offset, length, layer: LAYER, host };
};
const hidden = (offset: number, length: number): SourceExtent => {
  return { kind: 'data', offset, length, layer: LAYER, host: null };
};

async function* batches(
  extents: readonly SourceExtent[],
  size = 3,
): AsyncGenerator<readonly SourceExtent[]> {
  for (let i = 0; i < extents.length; i += size) yield extents.slice(i, i + size);
}

async function plan(extents: readonly SourceExtent[], shape: PlanShape): Promise<PlanStep[]> {
  const steps: PlanStep[] = [];
  for await (const batch of planSteps(batches(extents), shape)) {
    expect(batch.length).toBeGreaterThan(0);
    steps.push(...batch);
  }
  return steps;
}

const brief = (steps: readonly PlanStep[]) =>
  steps.map((step) => {
    const pieces = step.kind === 'copy' ? ` of ${step.pieces.length}` : '';
    return `${step.kind}${pieces} ${step.offset}+${step.length}`;
  });

const shape: PlanShape = { clusterSize: 4096, zeroUnit: 4096, diskSize: 100 * 4096 };

describe('zeros', () => {
  test('in whole clusters become zero clusters', async () => {
    expect(brief(await plan([zero(4096, 8192)], shape))).toEqual(['zero 4096+8192']);
  });

  test('at the ragged ends are written as data', async () => {
    expect(brief(await plan([zero(4000, 8500)], shape))).toEqual([
      'copy of 1 4000+96',
      'zero 4096+8192',
      'copy of 1 12288+212',
    ]);
  });

  test('that fill no cluster are written as data', async () => {
    expect(brief(await plan([zero(100, 4000)], shape))).toEqual(['copy of 1 100+4000']);
  });

  test('up to the end of the disk fill its last cluster', async () => {
    const ragged = { clusterSize: 4096, zeroUnit: 4096, diskSize: 10_000 };
    expect(brief(await plan([zero(8192, 1808)], ragged))).toEqual(['zero 8192+1808']);
    // Not where base is longer.
    expect(brief(await plan([zero(8192, 1807)], ragged))).toEqual(['copy of 1 8192+1807']);
  });

  test('beside data are written together with it', async () => {
    const extents = [data(0, 1000), zero(1000, 1000), data(2000, 96)];
    expect(brief(await plan(extents, shape))).toEqual(['copy of 3 0+2096']);
  });

  test('of terabytes are one step', async () => {
    const large = { clusterSize: 65536, zeroUnit: 65536, diskSize: 2 ** 43 };
    expect(brief(await plan([zero(0, 2 ** 43)], large))).toEqual([`zero 0+${2 ** 43}`]);
  });
});

describe('copies', () => {
  test('of neighbours go together, a gap ends them', async () => {
    const extents = [data(0, 100), hidden(100, 100), data(300, 100)];
    expect(brief(await plan(extents, shape))).toEqual(['copy of 2 0+200', 'copy of 1 300+100']);
  });

  test('through memory end at a border of clusters, after a mebibyte at most', async () => {
    const steps = await plan([hidden(1000, 3 * MIB)], {
      clusterSize: 65536,
      zeroUnit: 65536,
      diskSize: FAR,
    });
    expect(steps.map(({ offset }) => offset)).toEqual([1000, MIB, 2 * MIB, 3 * MIB]);
  });

  test('from a host file may be long', async () => {
    const large = { clusterSize: 65536, zeroUnit: 65536, diskSize: FAR };
    expect(brief(await plan([data(0, 100 * MIB)], large))).toEqual([
      `copy of 1 0+${64 * MIB}`,
      `copy of 1 ${64 * MIB}+${36 * MIB}`,
    ]);
  });

  test('from a host file begin and end at a border where something is beside them', async () => {
    const extents = [hidden(0, 1000), data(1000, 2 * MIB), hidden(1000 + 2 * MIB, 500)];
    expect(brief(await plan(extents, shape))).toEqual([
      'copy of 2 0+4096',
      `copy of 1 4096+${2 * MIB - 4096}`,
      `copy of 2 ${2 * MIB}+1500`,
    ]);
  });
});

test('no extents, no steps', async () => {
  expect(await plan([], shape)).toEqual([]);
});

test('a slice keeps what it is and where its bytes lie', () => {
  expect(slice(data(100, 50), 10, 20)).toEqual(data(110, 20));
  expect(slice(hidden(100, 50), 10, 20)).toEqual(hidden(110, 20));
  expect(slice(zero(100, 50), 10, 20)).toEqual(zero(110, 20));
});

const sourceExtents = fc
  .array(
    fc.record({
      kind: fc.constantFrom(zero, data, data, hidden),
      gap: fc.oneof(fc.constant(0), fc.nat(9000)),
      length: fc.oneof(
        fc.integer({ min: 1, max: 9000 }),
        fc.integer({ min: 1, max: 3 * MIB }),
        fc.integer({ min: 1, max: 200 }).map((n) => n * 4 * KIB),
      ),
    }),
    { maxLength: 20 },
  )
  .map((list) => {
    let offset = 0;
    return list.map(({ kind, gap, length }) => {
      const extent = kind(offset + gap, length);
      offset += gap + length;
      return extent;
    });
  });

/** Neighbours of one kind and place as one, so that plans and sources can be compared. */
function canonical(pieces: readonly SourceExtent[]): string[] {
  const words: { word: string; offset: number; end: number }[] = [];
  for (const piece of pieces) {
    const word = piece.kind === 'zero' ? 'zero' : piece.host === null ? 'hidden' : 'data';
    const last = words.at(-1);
    if (last?.word === word && last.end === piece.offset) last.end += piece.length;
    else words.push({ word, offset: piece.offset, end: piece.offset + piece.length });
    if (piece.kind === 'data' && piece.host) expect(piece.host.offset).toBe(FAR + piece.offset);
  }
  return words.map(({ word, offset, end }) => `${word} ${offset}..${end}`);
}

const asPieces = (steps: readonly PlanStep[]): SourceExtent[] =>
  steps.flatMap((step) => (step.kind === 'zero' ? [zero(step.offset, step.length)] : step.pieces));

const cluster = fc.constantFrom(512, 4096, 65536, 2 * MIB);

describe('any extents', () => {
  const forAll = (check: (extents: readonly SourceExtent[], shape: PlanShape) => Promise<void>) =>
    fc.assert(
      fc.asyncProperty(sourceExtents, cluster, fc.nat(5000), async (extents, clusterSize, more) => {
        const last = extents.at(-1);
        const end = last === undefined ? 0 : last.offset + last.length;
        // Most end before the disk does, some with it.
        const zeroUnit = clusterSize >= 16384 && more % 2 === 1 ? clusterSize / 32 : clusterSize;
        await check(extents, { clusterSize, zeroUnit, diskSize: more < 2500 ? end : end + more });
      }),
      { numRuns: 300 },
    );

  test('are covered by the steps exactly, in order, each byte from where it was', () =>
    forAll(async (extents, shape) => {
      const steps = await plan(extents, shape);
      expect(canonical(asPieces(steps))).toEqual(canonical(extents));
    }));

  test('give steps without overlap, of pieces without gaps', () =>
    forAll(async (extents, shape) => {
      let end = 0;
      for (const step of await plan(extents, shape)) {
        expect(step.offset).toBeGreaterThanOrEqual(end);
        expect(step.length).toBeGreaterThan(0);
        end = step.offset + step.length;
        if (step.kind === 'zero') continue;
        let at = step.offset;
        for (const { offset, length } of step.pieces) {
          expect(offset).toBe(at);
          at += length;
        }
        expect(at).toBe(end);
      }
    }));

  test('give zero steps of whole units, but for the end of the disk', () =>
    forAll(async (extents, shape) => {
      for (const { kind, offset, length } of await plan(extents, shape)) {
        if (kind !== 'zero') continue;
        expect(offset % shape.zeroUnit).toBe(0);
        if (offset + length < shape.diskSize) expect(length % shape.zeroUnit).toBe(0);
      }
    }));

  test('give copies of bounded size, those through memory of much less', () =>
    forAll(async (extents, shape) => {
      for (const step of await plan(extents, shape)) {
        if (step.kind === 'zero') continue;
        const [first] = step.pieces;
        const direct = step.pieces.length === 1 && first?.kind === 'data' && first.host !== null;
        const most = direct ? 64 * MIB : Math.max(MIB, shape.clusterSize);
        expect(step.length).toBeLessThanOrEqual(most);
      }
    }));
});
