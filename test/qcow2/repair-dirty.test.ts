// A dirty image: its refcounts are rebuilt before the first write, and only then.

import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { viewOf as dataView, writeField } from '../../src/qcow2/fields.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { setRefcount } from '../../src/qcow2/refcount.ts';
import { HEADER, INCOMPATIBLE } from '../../src/qcow2/spec.ts';
import {
  expectBytes,
  expectSound,
  memoryImage,
  memoryOf,
  viewOf,
} from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

const SIZE = 100 * 512;
const CONTENT = pattern(SIZE, 1);
const ORDERS = [0, 1, 2, 3, 4, 5, 6];

/** As a killed writer with lazy refcounts leaves it: all counts from `from` on are `count`. */
async function dirtyImage(order: number, from: number, count: number): Promise<MemoryStorage> {
  const image = await memoryImage({ size: SIZE, clusterSize: 512, refcountBits: 2 ** order });
  await image.write(0, CONTENT);
  await image.close();
  const bytes = memoryOf(image).bytes();
  writeField(bytes, HEADER.incompatibleFeatures, INCOMPATIBLE.dirty);
  const perBlock = 4096 / 2 ** order;
  const table = image.tables.refcountTablePlace.offset;
  const clusters = bytes.length / 512;
  for (let cluster = from; cluster < clusters; cluster++) {
    const entry = table + Math.floor(cluster / perBlock) * 8;
    const block = Number(dataView(bytes).getBigUint64(entry));
    if (block === 0) continue;
    setRefcount(bytes.subarray(block, block + 512), cluster % perBlock, order, count);
  }
  return new MemoryStorage(bytes);
}

test.each(ORDERS)('refcounts of 2^%d bits that are too low are raised', async (order) => {
  const storage = await dirtyImage(order, 3, 0);
  const image = await Qcow2Image.open(storage);
  await image.write(0, Uint8Array.of(CONTENT[0] ?? 0));
  await image.close();
  await expectSound(storage);
  const after = await Qcow2Image.open(storage);
  expect(after.dirty).toBe(false);
  expectBytes(await viewOf(after), CONTENT);
});

test.each(ORDERS.slice(1))(
  'refcounts of 2^%d bits that are too high are lowered',
  async (order) => {
    const storage = await dirtyImage(order, 4, 3);
    const image = await Qcow2Image.open(storage);
    await image.write(0, Uint8Array.of(CONTENT[0] ?? 0));
    await image.close();
    await expectSound(storage);
  },
);

test('reading alone leaves it dirty, and the file as it is', async () => {
  const storage = await dirtyImage(4, 3, 0);
  const before = storage.bytes();
  const image = await Qcow2Image.open(storage);
  expectBytes(await viewOf(image), CONTENT);
  await image.close();
  expectBytes(storage.bytes(), before);
});

test('an image whose tables point past the file is refused and left alone', async () => {
  const storage = await dirtyImage(4, 3, 0);
  const image = await Qcow2Image.open(storage);
  await storage.resize(storage.size - 4 * 512);
  const before = storage.bytes();
  await expect(image.write(0, Uint8Array.of(1))).rejects.toMatchObject({
    code: 'corrupt',
    message: expect.stringContaining("can't be rebuilt"),
    hint: expect.stringContaining('check -r all'),
  });
  expectBytes(storage.bytes(), before);
});

test('autoclear bits that nobody here knows are cleared by the first write', async () => {
  const image = await memoryImage({ size: SIZE, clusterSize: 512 });
  await image.close();
  const bytes = memoryOf(image).bytes();
  writeField(bytes, HEADER.autoclearFeatures, 0b1110n);
  const storage = new MemoryStorage(bytes);
  const opened = await Qcow2Image.open(storage);
  await viewOf(opened);
  expect((await Qcow2Image.open(storage)).header.autoclearFeatures).toBe(0b1110n);
  await opened.write(0, Uint8Array.of(1));
  await opened.close();
  expect((await Qcow2Image.open(storage)).header.autoclearFeatures).toBe(0b10n);
});
