// Images that contradict themselves, and what they get done to us: each has to end in an
// ImageError, soon, before anything of theirs is overwritten.

import { describe, expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { encodeExtensions } from '../../src/qcow2/extensions.ts';
import { viewOf as dataView, writeField, writeU64 } from '../../src/qcow2/fields.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { setRefcount } from '../../src/qcow2/refcount.ts';
import { AUTOCLEAR, EXTENSION, HEADER, INCOMPATIBLE } from '../../src/qcow2/spec.ts';
import { memoryImage, memoryOf } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

const SIZE = 100 * 512;
const COPIED = 2n ** 63n;

interface Parts {
  readonly bytes: Uint8Array;
  readonly l1: number;
  readonly l2: number;
  readonly refcountTable: number;
  readonly refcountBlock: number;
}

async function sound(refcountBits = 16): Promise<Parts> {
  const image = await memoryImage({ size: SIZE, clusterSize: 512, refcountBits });
  await image.write(0, pattern(512, 1));
  await image.close();
  const bytes = memoryOf(image).bytes();
  const view = dataView(bytes);
  const l1 = image.tables.l1Offset;
  const refcountTable = image.tables.refcountTablePlace.offset;
  const l2 = Number(view.getBigUint64(l1) & ~COPIED);
  return { bytes, l1, l2, refcountTable, refcountBlock: Number(view.getBigUint64(refcountTable)) };
}

const point = (bytes: Uint8Array, at: number, to: number) =>
  dataView(bytes).setBigUint64(at, COPIED | BigInt(to));

const corrupt = { name: 'ImageError', code: 'corrupt' };

test('an L2 table that is a refcount block too is corrupt, not an internal error', async () => {
  const { bytes, l1, refcountBlock } = await sound();
  point(bytes, l1, refcountBlock);
  const image = await Qcow2Image.open(new MemoryStorage(bytes));
  await expect(image.write(511, Uint8Array.of(1))).rejects.toMatchObject(corrupt);
});

describe('a data cluster that is a table too is not written to:', () => {
  test.each(['l1', 'l2', 'refcountTable', 'refcountBlock'] as const)('%s', async (what) => {
    const parts = await sound();
    const { bytes, l2 } = parts;
    point(bytes, l2, parts[what]);
    const storage = new MemoryStorage(bytes);
    const image = await Qcow2Image.open(storage);
    const written = image.write(0, new Uint8Array(512).fill(0xff));
    await expect(written).rejects.toMatchObject(corrupt);
  });
});

test('a bitmap table that no bitmap can need is refused before it is read', async () => {
  const { bytes: plain } = await sound();
  const data = new Uint8Array(24);
  dataView(data).setUint32(0, 1);
  writeU64(dataView(data), 8, 24);
  writeU64(dataView(data), 16, plain.length + 512 - (plain.length % 512));
  const bytes = new Uint8Array(plain.length + 1024 - (plain.length % 512));
  bytes.set(plain);
  bytes.set(encodeExtensions([{ type: EXTENSION.bitmaps, data }]), 112);
  writeField(bytes, HEADER.autoclearFeatures, AUTOCLEAR.bitmaps);
  // Its table: 32 GiB of a file that is sparse, as its size costs nothing.
  const entry = dataView(bytes).getUint32(112 + 8 + 20);
  writeU64(dataView(bytes), entry, 512);
  dataView(bytes).setUint32(entry + 8, 0xffff_ffff);
  let largest = 0;
  class Sparse extends MemoryStorage {
    override get size(): number {
      return 2 ** 38;
    }
    override async read(offset: number, target: Uint8Array): Promise<void> {
      largest = Math.max(largest, target.length);
      if (target.length > 2 ** 30) throw new RangeError('too much memory');
      await super.read(offset, target);
    }
  }
  await expect(Qcow2Image.open(new Sparse(bytes))).rejects.toMatchObject(corrupt);
  expect(largest).toBeLessThan(2 ** 20);
});

test('a dirty image with a huge refcount is rebuilt in no more time than any other', async () => {
  const { bytes, refcountBlock } = await sound(32);
  writeField(bytes, HEADER.incompatibleFeatures, INCOMPATIBLE.dirty);
  // 2^32 - 1 is what an image can say; that takes four thousand times as long and all memory.
  setRefcount(bytes.subarray(refcountBlock, refcountBlock + 512), 100, 5, 1_000_000);
  const image = await Qcow2Image.open(new MemoryStorage(bytes));
  const started = performance.now();
  await image.write(0, pattern(512, 2));
  expect(performance.now() - started).toBeLessThan(500);
});
