// Another size for a disk: what it costs, what becomes of bitmaps, of the file and of a disk that has no
// room. What the guest sees is the matter of resize-model.test.ts.

import { expect, test } from 'vitest';
import { ImageError } from '../../src/errors.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import { addBitmap } from '../../src/qcow2/bitmap-edit.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { refusalToResize, resizeImage } from '../../src/qcow2/resize-image.ts';
import { createSnapshot } from '../../src/qcow2/snapshot-changes.ts';
import {
  expectBytes,
  expectSound,
  findingsIn,
  memoryImage,
  memoryOf,
  reopened,
  viewOf,
} from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';
import { type Change, WatchedStorage } from '../support/watched-host.ts';

const KIB = 1024;
const SIZE = 256 * KIB;
const NOW = { seconds: 1, nanoseconds: 0 };

async function filled(options = {}): Promise<Qcow2Image> {
  const image = await memoryImage({ size: SIZE, clusterSize: 4096, ...options });
  await image.write(0, pattern(SIZE, 1));
  return await reopened(image);
}

async function dirtyIn(image: Qcow2Image): Promise<readonly string[]> {
  const bitmap = image.bitmaps.find('b');
  const found: string[] = [];
  if (bitmap === undefined) return found;
  for await (const stretches of image.bitmaps.stretchesOf(bitmap)) {
    for (const [from, to] of stretches) found.push(`${from}-${to}`);
  }
  return found;
}

test('what lies past the new end is free, and the file ends where its clusters do', async () => {
  const image = await filled();
  await resizeImage(image, 64 * KIB, 'off');
  await expectSound(image.storage);
  // Header, refcount table and block, L1 table, L2 table, 16 clusters of data.
  expect(image.storage.size).toBe((5 + 16) * 4096);
});

test('refcount blocks that count nothing go, too', async () => {
  const image = await filled({ clusterSize: 512, refcountBits: 64 });
  const before = image.storage.size;
  await resizeImage(image, 512, 'off');
  await expectSound(image.storage);
  expect(image.storage.size).toBeLessThan(before / 20);
  await image.grow(SIZE);
  await image.write(0, pattern(SIZE, 2));
  await image.flush();
  expectBytes(await viewOf(image), pattern(SIZE, 2));
  await expectSound(image.storage);
});

test('the end of the last cluster does not come back, not even by the hand of others', async () => {
  const image = await filled();
  await resizeImage(image, 6 * KIB, 'off');
  const [run] = await image.extents(4096, 2048);
  const place = run?.host?.offset ?? 0;
  const tail = new Uint8Array(2048);
  await image.storage.read(place + 2048, tail);
  expect(tail.every((byte) => byte === 0)).toBe(true);
});

test('snapshots keep their disk', async () => {
  const image = await filled();
  await createSnapshot(image, { name: 's', ...NOW });
  await resizeImage(image, 10 * KIB, 'off');
  await resizeImage(image, SIZE, 'off');
  const expected = new Uint8Array(SIZE);
  expected.set(pattern(SIZE, 1).subarray(0, 10 * KIB));
  expectBytes(await viewOf(image), expected);
  await expectSound(image.storage);
});

test('a smaller disk needs no room', async () => {
  const image = await filled();
  const bytes = memoryOf(image).bytes();
  const inner = new MemoryStorage(bytes);
  const watch = (change: Change) => {
    if (change.kind === 'write' && change.offset + change.bytes.length > bytes.length) throw full();
  };
  const full = () => new ImageError('no-space', 'full', { errno: 'ENOSPC' });
  const again = await Qcow2Image.open(new WatchedStorage(inner, watch));
  await resizeImage(again, 70 * KIB, 'off');
  await expectSound(inner);
});

test.each(['metadata', 'falloc', 'full'] as const)(
  'preallocation (%s) that finds no room is taken back',
  async (mode) => {
    const bytes = memoryOf(await filled()).bytes();
    const inner = new MemoryStorage(bytes);
    let left = 300;
    const watch = (change: Change) => {
      if (change.kind === 'flush' || left-- > 0 || left < -1) return;
      throw new ImageError('no-space', 'full', { errno: 'ENOSPC' });
    };
    const image = await Qcow2Image.open(new WatchedStorage(inner, watch));
    await expect(resizeImage(image, 400 * 1024 * KIB, mode)).rejects.toMatchObject({
      code: 'no-space',
    });
    await image.close();
    const { corruptions } = await findingsIn(inner);
    expect(corruptions).toBe(0);
    const after = await Qcow2Image.open(inner);
    expectBytes(await viewOf(after), pattern(SIZE, 1));
    expect(inner.size).toBeLessThan(2 * bytes.length);
  },
);

test('bitmaps keep what they recorded of what is left', async () => {
  const image = await memoryImage({ size: SIZE, clusterSize: 512 });
  await image.changeBitmaps(async (bitmaps) => addBitmap(bitmaps, image, 'b', 512));
  await image.write(100 * KIB, pattern(100 * KIB, 1));
  await resizeImage(image, 150 * KIB, 'off');
  expect(await dirtyIn(image)).toEqual(['102400-153600']);
  await resizeImage(image, 3 * SIZE, 'off');
  expect(await dirtyIn(await reopened(image))).toEqual(['102400-153600']);
  await expectSound(image.storage);
});

test.each([
  ['ragged', SIZE + 100, {}, 'The new size must be a multiple of 512'],
  ['too large', 2 ** 52, {}, 'Failed to grow the L1 table: File too large'],
] as const)('refused: %s', async (_why, size, options, words) => {
  const refusal = await refusalToResize(await filled(options), size);
  expect(refusal?.message).toBe(words);
});

test('refused: version 2 with snapshots, in either direction', async () => {
  const image = await filled({ version: 2 });
  await createSnapshot(image, { name: 's', ...NOW });
  for (const size of [SIZE / 2, SIZE, 2 * SIZE]) {
    const refusal = await refusalToResize(image, size);
    expect(refusal?.message).toBe("Can't resize a v2 image which has snapshots");
  }
});
