// The status of a range through a chain: who decides, and where the bytes lie.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type BlockStatus, blockStatus, statusSteps } from '../../src/chain/block-status.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { RawImage } from '../../src/raw/raw.ts';
import { GIB, KIB, MIB } from '../../src/units.ts';
import { FakeLayer, type FakeRun } from '../support/fake-layer.ts';
import { imageIn } from '../support/memory-images.ts';

const unallocated = (length: number): FakeRun => ({ kind: 'unallocated', length });
const zero = (length: number): FakeRun => ({ kind: 'zero', length });
const data = (length: number): FakeRun => ({ kind: 'data', length });
const hidden = (length: number): FakeRun => ({ kind: 'data', length, hidden: true });

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** `1 data 8+4 @1008`: depth, kind, range, place. */
const words = (list: readonly BlockStatus[]) =>
  list.map(({ depth, kind, offset, length, host }) => {
    const place = host === null ? '' : ` @${host.offset}`;
    return `${depth} ${kind} ${offset}+${length}${place}`;
  });

const statusOf = async (layers: readonly FakeLayer[], offset = 0, length = layers[0]?.size ?? 0) =>
  words(await all(blockStatus(layers, offset, length)));

test('the uppermost layer that says anything decides', async () => {
  const top = new FakeLayer('top', [unallocated(4), zero(4), unallocated(8), data(4)]);
  const mid = new FakeLayer('mid', [unallocated(8), hidden(4), unallocated(8)]);
  const base = new FakeLayer('base', [data(14), unallocated(6)]);
  expect(await statusOf([top, mid, base])).toEqual([
    '2 data 0+4 @1000',
    '0 zero 4+4',
    '1 data 8+4',
    '2 data 12+2 @1012',
    '2 absent 14+2',
    '0 data 16+4 @1016',
  ]);
});

test('past the end of the layer below, the one above it decides', async () => {
  const top = new FakeLayer('top', [unallocated(20)]);
  const mid = new FakeLayer('mid', [unallocated(12)]);
  const base = new FakeLayer('base', [data(4)]);
  expect(await statusOf([top, mid, base])).toEqual([
    '2 data 0+4 @1000',
    '1 absent 4+8',
    '0 absent 12+8',
  ]);
  const steps = await all(statusSteps([top, mid, base], 0, 20));
  expect(steps.map(({ pastBacking }) => pastBacking)).toEqual([false, true, true]);
  const alone = await all(statusSteps([top], 0, 20));
  expect(alone.map(({ pastBacking }) => pastBacking)).toEqual([false]);
});

test('a part of the disk', async () => {
  const top = new FakeLayer('top', [data(8), zero(8)]);
  expect(await statusOf([top], 5, 6)).toEqual(['0 data 5+3 @1005', '0 zero 8+3']);
  expect(await statusOf([top], 5, 0)).toEqual([]);
});

const run = fc.record({
  kind: fc.constantFrom<FakeRun['kind']>('unallocated', 'zero', 'data'),
  length: fc.integer({ min: 1, max: 9 }),
});

test('each byte has the status that its layers say, however short their answers', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(run, { minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 1, max: 3 }),
      async (runs, most) => {
        const layers = runs.map((each, i) => new FakeLayer(`${i}`, each, most));
        const size = layers[0]?.size ?? 0;
        let next = 0;
        for await (const { offset, length, depth, kind } of blockStatus(layers, 0, size)) {
          expect(offset).toBe(next);
          expect(length).toBeGreaterThan(0);
          next = offset + length;
          for (let at = offset; at < next; at++) {
            expect({ depth, kind }).toEqual(await expected(layers, at));
          }
        }
        expect(next).toBe(size);
      },
    ),
    { seed: 1, numRuns: 200 },
  ));

async function expected(layers: readonly FakeLayer[], at: number) {
  for (const [depth, layer] of layers.entries()) {
    const kind = (await layer.extents(at, 1))[0]?.kind ?? 'unallocated';
    if (kind !== 'unallocated') return { depth, kind };
    if (at >= (layers[depth + 1]?.size ?? 0)) return { depth, kind: 'absent' };
  }
  throw new Error('no layer');
}

const CLUSTER = 4096;

/** An image with data in its first three clusters; one bit is set in the L2 entry of one of them. */
async function withBit(cluster: number, byte: number, bit: number): Promise<Qcow2Image> {
  const storage = new MemoryStorage();
  const image = await imageIn(storage, { size: 8 * CLUSTER, clusterSize: CLUSTER });
  await image.write(0, new Uint8Array(3 * CLUSTER).fill(1));
  await image.flush();
  const place = image.tables.l1Entry(0).offset + cluster * 8 + byte;
  const old = new Uint8Array(1);
  await storage.read(place, old);
  await storage.write(place, Uint8Array.of((old[0] ?? 0) | bit), 'l2');
  return Qcow2Image.open(storage);
}

test('a zero cluster that keeps its place has one', async () => {
  const image = await withBit(1, 7, 1);
  const list = await all(blockStatus([image], 0, image.size));
  expect(list.map(({ kind }) => kind)).toEqual(['data', 'zero', 'data', 'absent']);
  expect(list[1]?.host?.offset).toBe((list[0]?.host?.offset ?? 0) + CLUSTER);
});

test('raw zeros lie somewhere too', async () => {
  const storage = new MemoryStorage(new Uint8Array(1000).fill(1));
  expect(words(await all(blockStatus([new RawImage(storage)], 0, 1024)))).toEqual([
    '0 data 0+1000 @0',
    '0 zero 1000+24 @1000',
  ]);
});

test('steps end with the tables that QEMU reads at once', async () => {
  const lengths = async (size: number, clusterSize: number) => {
    await using image = await imageIn(new MemoryStorage(), { size, clusterSize });
    return (await all(statusSteps([image], 0, size))).map(({ length }) => length);
  };
  // Whole tables as long as they fit its cache, slices of 4 KiB then, never 2 GiB.
  expect(await lengths(GIB, 64 * KIB)).toEqual([512 * MIB, 512 * MIB]);
  expect((await lengths(257 * GIB, 64 * KIB))[0]).toBe(32 * MIB);
  expect(await lengths(3 * GIB, 2 * MIB)).toEqual([2 ** 31 - 1, 3 * GIB - 2 ** 31 + 1]);
});

test('what stands before a broken entry of a table is still told', async () => {
  // Bit 9 of the offset: no cluster starts there.
  const image = await withBit(2, 6, 2);
  const seen: BlockStatus[] = [];
  const reading = (async () => {
    for await (const step of statusSteps([image], 0, image.size)) seen.push(step);
  })();
  await expect(reading).rejects.toMatchObject({ code: 'corrupt' });
  expect(seen.reduce((sum, { length }) => sum + length, 0)).toBe(2 * CLUSTER);
});
