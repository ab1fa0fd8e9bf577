// Commits that let go of what base holds as they go: the same result as without, and nothing is left
// above base that need not be.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { commit } from '../../src/commit/commit.ts';
import type { CommitOptions } from '../../src/commit/options.ts';
import type { PlanStep } from '../../src/commit/plan.ts';
import { type Window, windowsOf } from '../../src/commit/windows.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { buildChain, filesOf, type MemoryLayer, memoryChain } from '../support/memory-chains.ts';
import { expectBytes, expectSoundFile, viewThrough } from '../support/memory-images.ts';
import { hostWith } from '../support/watched-host.ts';

type Form = Omit<CommitOptions, 'host'>;

const nameAt = (index: number) => `/disks/layer${index}`;
/** The last one: as the free space has it, which nobody knows here. */
const windows = fc.constantFrom(1, 4096, 20_000, undefined);

/** The same commit with and without reclaiming; the host of the one with. */
async function commitBoth(
  layers: readonly MemoryLayer[],
  form: Form,
  reclaimWindow?: number,
): Promise<MemoryHost> {
  const host = new MemoryHost();
  const names = await buildChain(host, layers);
  const plain = hostWith(new MemoryHost(), filesOf(host, names));
  const active = names.at(-1) ?? '';
  const view = await viewThrough(host, active);
  const how = { reclaim: true, ...(reclaimWindow !== undefined && { reclaimWindow }) };
  const { plan } = await commit(active, { host, ...how, ...form });
  const expected = await commit(active, { host: plain, ...form });
  expect(plan).toEqual({ ...expected.plan, reclaims: plan.merged });
  expectBytes(await viewThrough(host, active), view, 'the view through the top');
  const { base } = plan;
  expectBytes(await viewThrough(host, base), await viewThrough(plain, base), 'base');
  for (const [i, { raw }] of layers.entries()) {
    if (!raw && host.fileBytes(nameAt(i)) !== undefined) await expectSoundFile(host, nameAt(i));
  }
  return host;
}

/** Bytes that a layer itself holds, up to `end`. */
async function heldBy(host: MemoryHost, name: string, end: number): Promise<number> {
  await using chain = await openChain(name, { host, single: true });
  let bytes = 0;
  for (let at = 0; at < Math.min(end, chain.size); ) {
    const extents = await chain.top.extents(at, Math.min(end, chain.size) - at);
    for (const { kind, offset, length } of extents) {
      if (kind !== 'unallocated') bytes += length;
      at = offset + length;
    }
  }
  return bytes;
}

test('into the backing file: the top is emptied as ever', { timeout: 60_000 }, () =>
  fc.assert(
    fc.asyncProperty(memoryChain(1, 3), windows, async (layers, window) => {
      const host = await commitBoth(layers, {}, window);
      expect(await heldBy(host, nameAt(layers.length - 1), Number.POSITIVE_INFINITY)).toBe(0);
    }),
    { numRuns: 60 },
  ),
);

/** Where all disks have one size and whole clusters, nothing has to be kept. */
const even = (layers: readonly MemoryLayer[]) =>
  layers.map((layer) => ({ ...layer, sectors: 160 }));

test.each([{}, { relink: true }, { relink: true, delete: true }])(
  'into a base further down, %j: the layers above have let go of all',
  { timeout: 60_000 },
  (form) =>
    fc.assert(
      fc.asyncProperty(memoryChain(2, 4), fc.nat(3), windows, async (layers, depth, window) => {
        const base = nameAt(depth % (layers.length - 2));
        await commitBoth(layers, { base, ...form }, window);
        const host = await commitBoth(even(layers), { base, ...form }, window);
        for (let i = (depth % (layers.length - 2)) + 1; i < layers.length; i++) {
          if (host.fileBytes(nameAt(i)) === undefined) continue;
          expect(await heldBy(host, nameAt(i), Number.POSITIVE_INFINITY), nameAt(i)).toBe(0);
        }
      }),
      { numRuns: 40 },
    ),
);

test('of the middle of a chain: the overlay shows the same', { timeout: 60_000 }, () =>
  fc.assert(
    fc.asyncProperty(memoryChain(2, 4), fc.nat(9), fc.nat(9), windows, async (layers, a, b, w) => {
      const top = 1 + (a % (layers.length - 2));
      const form = { top: nameAt(top), base: nameAt(b % top) };
      await commitBoth(layers, form, w);
      const host = await commitBoth(even(layers), form, w);
      for (let i = (b % top) + 1; i <= top; i++) {
        expect(await heldBy(host, nameAt(i), Number.POSITIVE_INFINITY), nameAt(i)).toBe(0);
      }
    }),
    { numRuns: 60 },
  ),
);

const layer = (more: Partial<MemoryLayer> = {}): MemoryLayer => ({
  raw: false,
  sectors: 160,
  clusterSize: 512,
  version: 3,
  refcountBits: 16,
  operations: [{ kind: 'write', at: 0, length: 160 * 512 }],
  ...more,
});

test('what reads as zeros past the end of a short layer is kept above it', async () => {
  const layers = [layer(), layer({ sectors: 60 }), layer()];
  const host = await commitBoth(layers, { base: nameAt(0) }, 4096);
  expect(await heldBy(host, nameAt(1), 60 * 512)).toBe(0);
  expect(await heldBy(host, nameAt(2), 60 * 512)).toBe(0);
  expect(await heldBy(host, nameAt(2), 160 * 512)).toBe(100 * 512);
});

test('a larger cluster of a lower layer goes only as a whole', async () => {
  // The cluster at the end of the smaller top reaches further.
  const layers = [layer(), layer({ clusterSize: 4096 }), layer({ sectors: 70 })];
  const host = await commitBoth(layers, { base: nameAt(0) }, 1000);
  expect(await heldBy(host, nameAt(1), 64 * 512)).toBe(0);
  expect(await heldBy(host, nameAt(2), 64 * 512)).toBe(0);
  expect(await heldBy(host, nameAt(2), 70 * 512)).toBe(6 * 512);
});

// The plan in windows

async function* inBatches(steps: readonly PlanStep[]): AsyncGenerator<readonly PlanStep[]> {
  yield steps;
}

const zero = (offset: number, length: number): PlanStep => ({ kind: 'zero', offset, length });
const copy = (offset: number, length: number): PlanStep => ({
  kind: 'copy',
  offset,
  length,
  pieces: [{ kind: 'zero', offset, length }],
});

async function windowed(steps: readonly PlanStep[], more = {}): Promise<readonly Window[]> {
  const shape = { bytes: 1000, clusterSize: 512, zerosAreData: false, unit: 512, end: 10_000 };
  const found: Window[] = [];
  for await (const window of windowsOf(inBatches(steps), { ...shape, ...more })) found.push(window);
  return found;
}

test('a long copy is cut at borders of base, zeros are not', async () => {
  expect(await windowed([zero(0, 4096), copy(4096, 2048)])).toEqual([
    { steps: [zero(0, 4096), copy(4096, 1024)], from: 0, to: 5120 },
    { steps: [copy(5120, 1024)], from: 5120, to: 6144 },
    { steps: [], from: 6144, to: 10_000 },
  ]);
});

test('zeros that are written as data are cut too', async () => {
  expect(await windowed([zero(0, 2048)], { zerosAreData: true })).toEqual([
    { steps: [zero(0, 1024)], from: 0, to: 1024 },
    { steps: [zero(1024, 1024)], from: 1024, to: 2048 },
    { steps: [], from: 2048, to: 10_000 },
  ]);
});

test('what is let go of is whole units, the rest comes later; nothing behind the end', async () => {
  expect(await windowed([copy(512, 3072)], { unit: 4096, end: 3000 })).toEqual([
    { steps: [copy(512, 1024)], from: 0, to: 0 },
    { steps: [copy(1536, 1024)], from: 0, to: 0 },
    { steps: [copy(2560, 1024)], from: 0, to: 0 },
    { steps: [], from: 0, to: 3000 },
  ]);
});
