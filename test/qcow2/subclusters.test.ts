// Extended L2 entries: the bitmaps, and what becomes of single subclusters.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ImageError } from '../../src/errors.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import type { CreateOptions } from '../../src/qcow2/create.ts';
import { viewOf as dataView, writeField } from '../../src/qcow2/fields.ts';
import { geometryOf } from '../../src/qcow2/geometry.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { l2EntryAt } from '../../src/qcow2/l2-table.ts';
import { HEADER } from '../../src/qcow2/spec.ts';
import { alikeFrom, bitsBetween, highest, lowest } from '../../src/qcow2/subclusters.ts';
import { RawImage } from '../../src/raw/raw.ts';
import { alignUp } from '../../src/units.ts';
import {
  expectBytes,
  expectSound,
  memoryImage,
  memoryOf,
  viewOf,
} from '../support/memory-images.ts';
import { atSnapshot, withSnapshot } from '../support/snapshots.ts';
import { pattern } from '../support/storage-contract.ts';

const SUBCLUSTER = 512;
const CLUSTER = 32 * SUBCLUSTER;
const SIZE = 4 * CLUSTER;

const index = fc.nat(31);
const bits = fc.oneof(
  fc.integer({ min: 0, max: 0xffff_ffff }),
  fc.constantFrom(0, 1, 0x8000_0000, 0xffff_ffff, 0x7fff_ffff),
);
const has = (word: number, i: number) => Math.floor((word >>> 0) / 2 ** i) % 2 === 1;

describe('bitmaps', () => {
  test('a range of bits has those and no others', () =>
    fc.assert(
      fc.property(fc.nat(32), fc.nat(32), (from, to) => {
        const word = bitsBetween(from, to);
        for (let i = 0; i < 32; i++) expect(has(word, i)).toBe(i >= from && i < to);
      }),
    ));

  test('alike are those up to the first that differs', () =>
    fc.assert(
      fc.property(bits, bits, index, (allocated, zeroed, from) => {
        let end = from + 1;
        const same = (i: number) =>
          has(allocated, i) === has(allocated, from) && has(zeroed, i) === has(zeroed, from);
        while (end < 32 && same(end)) end++;
        expect(alikeFrom(allocated, zeroed, from)).toBe(end - from);
      }),
    ));

  test('lowest and highest', () =>
    fc.assert(
      fc.property(bits.filter(Boolean), (word) => {
        const set = Array.from({ length: 32 }, (_, i) => i).filter((i) => has(word, i));
        expect([lowest(word), highest(word)]).toEqual([set[0], set.at(-1)]);
      }),
    ));
});

test('any 16 bytes are refused, or mean something that has no contradictions', () => {
  const geometry = geometryOf(16, 4, true);
  const word = fc.oneof(
    bits,
    fc.constantFrom(0, 0x8000_0000, 0x4000_0000, 0x0001_0000, 0x0003_0001),
  );
  fc.assert(
    fc.property(word, word, word, word, (high, low, zeroed, allocated) => {
      const view = new DataView(new ArrayBuffer(32));
      for (const [i, each] of [high, low, zeroed, allocated].entries()) {
        view.setUint32(16 + i * 4, each);
      }
      try {
        const { kind } = l2EntryAt({ offset: 0, view }, 1, geometry, 3);
        expect(kind).not.toBe('zero');
        if (kind === 'data') expect((zeroed & allocated) >>> 0).toBe(0);
        if (kind === 'unallocated') expect([high, low, allocated]).toEqual([0, 0, 0]);
      } catch (error) {
        if (!(error instanceof ImageError)) throw error;
        expect(error.code).toBe('corrupt');
      }
    }),
    { numRuns: 1000 },
  );
});

const SHAPE: CreateOptions = { size: SIZE, clusterSize: CLUSTER, extendedL2: true };

/** Over a backing file that is the pattern 99. */
async function backed(storage: MemoryStorage): Promise<Qcow2Image> {
  const image = await Qcow2Image.open(storage);
  image.backing = new RawImage(new MemoryStorage(pattern(SIZE, 99)));
  return image;
}

async function overlay(options: Partial<CreateOptions> = {}): Promise<Qcow2Image> {
  const image = await memoryImage({ ...SHAPE, ...options });
  await image.close();
  return backed(memoryOf(image));
}

/** Runs of subclusters, as `data 2+1`. */
async function runs(image: Qcow2Image): Promise<string[]> {
  const extents = await image.extents(0, CLUSTER);
  return extents
    .filter(({ kind }) => kind !== 'unallocated')
    .map(({ kind, offset, length }) => `${kind} ${offset / SUBCLUSTER}+${length / SUBCLUSTER}`);
}

/** A host cluster for the first 16 KiB: data, zeros and holes. */
async function mixed(): Promise<Qcow2Image> {
  const image = await overlay();
  await image.write(5 * SUBCLUSTER, pattern(SUBCLUSTER, 1));
  await image.zero(9 * SUBCLUSTER, SUBCLUSTER);
  await image.write(12 * SUBCLUSTER, pattern(2 * SUBCLUSTER, 2));
  await image.flush();
  return image;
}

async function expectView(image: Qcow2Image, changes: readonly [number, Uint8Array][]) {
  const expected = pattern(SIZE, 99);
  for (const [at, bytes] of changes) expected.set(bytes, at);
  expectBytes(await viewOf(image), expected);
  await image.flush();
  expectBytes(await viewOf(await backed(memoryOf(image))), expected);
  await expectSound(image.storage);
}

const MIXED: readonly [number, Uint8Array][] = [
  [5 * SUBCLUSTER, pattern(SUBCLUSTER, 1)],
  [9 * SUBCLUSTER, new Uint8Array(SUBCLUSTER)],
  [12 * SUBCLUSTER, pattern(2 * SUBCLUSTER, 2)],
];

test('a write takes a cluster, and completes the subclusters that it touches alone', async () => {
  const image = await overlay();
  await image.write(3 * SUBCLUSTER + 100, pattern(SUBCLUSTER, 1));
  expect(await runs(image)).toEqual(['data 3+2']);
  await expectView(image, [[3 * SUBCLUSTER + 100, pattern(SUBCLUSTER, 1)]]);
});

test('data, zeros and what shines through lie side by side in one cluster', async () => {
  const image = await mixed();
  expect(await runs(image)).toEqual(['data 5+1', 'zero 9+1', 'data 12+2']);
  await expectView(image, MIXED);
});

test('a write into a cluster of the image stays there', async () => {
  const image = await mixed();
  const before = image.storage.size;
  const more = pattern(5 * SUBCLUSTER, 3);
  await image.write(8 * SUBCLUSTER + 7, more);
  expect(await runs(image)).toEqual(['data 5+1', 'data 8+6']);
  expect(image.storage.size).toBe(before);
  await expectView(image, [...MIXED, [8 * SUBCLUSTER + 7, more]]);
});

test('zeros over part of a cluster leave the rest', async () => {
  const image = await mixed();
  await image.zero(12 * SUBCLUSTER, SUBCLUSTER + 100);
  expect(await runs(image)).toEqual(['data 5+1', 'zero 9+1', 'zero 12+1', 'data 13+1']);
  const zeros = new Uint8Array(SUBCLUSTER + 100);
  await expectView(image, [...MIXED, [12 * SUBCLUSTER, zeros]]);
});

test('zeros without a cluster take none, and a write beside them keeps them', async () => {
  const image = await overlay();
  // Its last cluster is there in part.
  const before = alignUp(image.storage.size, CLUSTER);
  await image.zero(4 * SUBCLUSTER, 3 * SUBCLUSTER);
  await image.flush();
  expect(image.storage.size).toBe(before + CLUSTER); // the L2 table
  await image.write(20 * SUBCLUSTER, pattern(10, 1));
  expect(await runs(image)).toEqual(['zero 4+3', 'data 20+1']);
  await expectView(image, [
    [4 * SUBCLUSTER, new Uint8Array(3 * SUBCLUSTER)],
    [20 * SUBCLUSTER, pattern(10, 1)],
  ]);
});

test('zeros over a whole cluster let its host cluster go', async () => {
  const image = await mixed();
  await image.zero(0, CLUSTER);
  await image.flush();
  expect(await image.extents(0, CLUSTER)).toEqual([{ kind: 'zero', offset: 0, length: CLUSTER }]);
  await expectView(image, [[0, new Uint8Array(CLUSTER)]]);
});

test('preallocated clusters hold nothing: what lies below is seen', async () => {
  const image = await overlay({ preallocation: 'full' });
  expect(await runs(image)).toEqual([]);
  const [extent] = await image.extents(0, SIZE);
  expect(extent).toMatchObject({ kind: 'unallocated', length: SIZE, host: {} });
  await expectView(image, []);
  const before = image.storage.size;
  await image.write(1000, pattern(20_000, 4));
  await expectView(image, [[1000, pattern(20_000, 4)]]);
  expect(image.storage.size).toBe(before);
});

test('in a cluster that a snapshot shares, all that it holds is copied, in one piece', async () => {
  const made = await mixed();
  await made.close();
  const storage = new MemoryStorage(withSnapshot(memoryOf(made).bytes()));
  const image = await backed(storage);
  await image.write(3 * SUBCLUSTER, pattern(10, 5));
  expect(await runs(image)).toEqual(['data 3+11']);
  await expectView(image, [...MIXED, [3 * SUBCLUSTER, pattern(10, 5)]]);
  const kept = await backed(new MemoryStorage(atSnapshot(storage.bytes())));
  expect(await runs(kept)).toEqual(['data 5+1', 'zero 9+1', 'data 12+2']);
});

describe('damaged entries', () => {
  /** The image with the entry of its first cluster changed. */
  async function damaged(change: (view: DataView, entry: number) => void): Promise<Qcow2Image> {
    const image = await mixed();
    await image.close();
    const bytes = memoryOf(image).bytes().slice();
    change(dataView(bytes), image.tables.l1Entry(0).offset);
    return backed(new MemoryStorage(bytes));
  }

  const invalid = /Invalid cluster entry found \(L2 offset: 0x\w+, L2 index: 0x0\)/;

  test.each<[string, RegExp, (view: DataView, entry: number) => void]>([
    ['both bits of a subcluster', invalid, (view, at) => view.setUint32(at + 8, 0xffff_ffff)],
    ['allocated without a cluster', invalid, (view, at) => view.setBigUint64(at, 0n)],
    ['the zero flag', /reserved bits are set/, (view, at) => view.setUint8(at + 7, 1)],
  ])('%s: nothing is read, nothing is written', async (_what, message, change) => {
    const image = await damaged(change);
    const before = memoryOf(image).bytes().slice();
    const corrupt = { code: 'corrupt', message: expect.stringMatching(message) };
    await expect(image.read(0, new Uint8Array(1))).rejects.toMatchObject(corrupt);
    await expect(image.write(0, new Uint8Array(1))).rejects.toMatchObject(corrupt);
    await expect(image.zero(512, 512)).rejects.toMatchObject(corrupt);
    await expect(image.growthCounter().addData(0, 1)).rejects.toMatchObject(corrupt);
    // But for the bit that says that it is corrupt.
    writeField(before, HEADER.incompatibleFeatures, 0x12n);
    expectBytes(memoryOf(image).bytes(), before);
  });

  test('the bitmap of a compressed cluster means nothing', async () => {
    const image = await damaged((view, at) => view.setUint8(at, 0x40));
    const [extent] = await image.extents(0, CLUSTER);
    expect(extent).toEqual({ kind: 'data', offset: 0, length: CLUSTER, host: null });
  });
});
