// New images: sound for all cluster sizes and refcount widths, and what is refused.

import { describe, expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { type CreateOptions, createImage } from '../../src/qcow2/create.ts';
import {
  expectBytes,
  expectSound,
  memoryImage,
  reopened,
  viewOf,
} from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

const CLUSTER_SIZES = Array.from({ length: 13 }, (_, i) => 512 * 2 ** i);
const WIDTHS = [1, 2, 4, 8, 16, 32, 64];

describe.each(CLUSTER_SIZES)('with clusters of %d bytes', (clusterSize) => {
  test.each(WIDTHS)('and refcounts of %d bits: sound, filled and emptied', async (refcountBits) => {
    // Ends in the middle of a cluster, and behind one L2 table where clusters are small.
    const size = 40 * Math.min(clusterSize, 8192) + 512;
    const image = await memoryImage({ size, clusterSize, refcountBits });
    await image.flush();
    await expectSound(image.storage);
    expectBytes(await viewOf(image), new Uint8Array(size), 'when new');
    const content = pattern(size, 3);
    await image.write(0, content);
    expectBytes(await viewOf(await reopened(image)), content, 'when filled');
    await expectSound(image.storage);
    await image.empty();
    expectBytes(await viewOf(image), new Uint8Array(size), 'when emptied');
    await image.close();
    await expectSound(image.storage);
  });
});

test('nothing is said but what was asked for', async () => {
  const image = await memoryImage({ size: 1024 * 1024 });
  expect((await reopened(image)).header).toMatchObject({
    version: 3,
    size: 1024 * 1024,
    clusterBits: 16,
    refcountOrder: 4,
    compressionType: 'zlib',
    incompatibleFeatures: 0n,
    compatibleFeatures: 0n,
    autoclearFeatures: 0n,
    backingFile: null,
    backingFormat: null,
    nbSnapshots: 0,
  });
});

test('each option is in the header', async () => {
  const image = await memoryImage({
    size: 1024 * 1024,
    clusterSize: 4096,
    refcountBits: 1,
    compressionType: 'zstd',
    lazyRefcounts: true,
    backingFile: 'dir/base file',
    backingFormat: 'raw',
  });
  expect((await reopened(image)).header).toMatchObject({
    refcountOrder: 0,
    compressionType: 'zstd',
    incompatibleFeatures: 8n,
    compatibleFeatures: 1n,
    backingFile: 'dir/base file',
    backingFormat: 'raw',
  });
});

test('version 2 has the old header', async () => {
  const image = await memoryImage({ size: 4096, version: 2, backingFile: 'base' });
  const header = { version: 2, headerLength: 72, backingFile: 'base' };
  expect((await reopened(image)).header).toMatchObject(header);
});

test('a disk of no bytes can be made, and grown', async () => {
  const image = await memoryImage({ size: 0, clusterSize: 512 });
  await image.grow(100_000);
  await image.write(99_999, Uint8Array.of(7));
  expect((await viewOf(image)).at(-1)).toBe(7);
  await image.close();
  await expectSound(image.storage);
});

test('what the file held before is no part of the image', async () => {
  const storage = new MemoryStorage(pattern(300_000, 5));
  const image = await createImage(storage, { size: 100_000 - (100_000 % 512), clusterSize: 512 });
  expectBytes(await viewOf(image), new Uint8Array(image.size));
  await image.write(10, Uint8Array.of(1));
  const expected = new Uint8Array(image.size);
  expected[10] = 1;
  expectBytes(await viewOf(await reopened(image)), expected);
});

test('a large disk takes little room', async () => {
  const image = await memoryImage({ size: 2 ** 40 });
  await image.close();
  await expectSound(image.storage);
  expect(image.storage.size).toBeLessThan(512 * 1024);
});

test.each<[string, Partial<CreateOptions>]>([
  ['a cluster size that is no power of two', { clusterSize: 65535 }],
  ['clusters of 256 bytes', { clusterSize: 256 }],
  ['clusters of 4 MiB', { clusterSize: 4 * 1024 * 1024 }],
  ['clusters of 0 bytes', { clusterSize: 0 }],
  ['refcounts of 3 bits', { refcountBits: 3 }],
  ['refcounts of 128 bits', { refcountBits: 128 }],
  ['refcounts of no bits', { refcountBits: 0 }],
  ['a size that is not whole sectors', { size: 1000 }],
  ['a negative size', { size: -512 }],
  ['no number as the size', { size: Number.NaN }],
  ['a size beyond 2^53', { size: 2 ** 60 }],
  ['a size that the L1 table can not reach', { size: 2 ** 38, clusterSize: 512 }],
  ['narrow refcounts in version 2', { version: 2, refcountBits: 8 }],
  ['lazy refcounts in version 2', { version: 2, lazyRefcounts: true }],
  ['zstd in version 2', { version: 2, compressionType: 'zstd' }],
  ['a backing file name without room', { clusterSize: 512, backingFile: 'x'.repeat(400) }],
])('%s is refused, and nothing is written', async (_what, options) => {
  const storage = new MemoryStorage();
  const made = createImage(storage, { size: 4096, ...options });
  await expect(made).rejects.toMatchObject({ name: 'ImageError', code: 'invalid' });
  expect(storage.size).toBe(0);
});
