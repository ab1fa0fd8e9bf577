// Preallocated images: every cluster mapped before anybody writes, and sound.

import { describe, expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { createImage } from '../../src/qcow2/create.ts';
import type { Preallocation } from '../../src/qcow2/preallocate.ts';
import {
  expectBytes,
  expectSound,
  memoryImage,
  reopened,
  viewOf,
} from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

const MODES: readonly Preallocation[] = ['metadata', 'falloc', 'full'];

describe.each(MODES)('preallocation=%s', (preallocation) => {
  test.each([
    [512, 1],
    [512, 64],
    [4096, 16],
    [65536, 16],
  ])('clusters of %d bytes, refcounts of %d bits', async (clusterSize, refcountBits) => {
    // Ends in the middle of a cluster, behind some L2 tables where clusters are small.
    const size = 300 * 1024 + 512;
    const image = await memoryImage({ size, clusterSize, refcountBits, preallocation });
    const again = await reopened(image);
    const extents = await again.extents(0, size);
    expect(extents.every(({ kind }) => kind === 'data')).toBe(true);
    expectBytes(await viewOf(again), new Uint8Array(size), 'when new');
    await expectSound(image.storage);
    // The file holds the last cluster to its end.
    expect(image.storage.size % clusterSize).toBe(0);
    const before = image.storage.size;
    const content = pattern(size, 5);
    await image.write(0, content);
    expectBytes(await viewOf(await reopened(image)), content, 'when filled');
    expect(image.storage.size).toBe(before);
    await expectSound(image.storage);
  });

  test('version 2, and a disk of no bytes', async () => {
    const old = await memoryImage({ size: 65536 * 3, version: 2, preallocation });
    await expectSound((await reopened(old)).storage);
    const empty = await memoryImage({ size: 0, preallocation });
    await expectSound((await reopened(empty)).storage);
  });

  test('is refused over a backing file, before anything is written', async () => {
    const storage = new MemoryStorage();
    const options = { size: 512, backingFile: 'x', backingFormat: 'raw', preallocation };
    await expect(createImage(storage, options)).rejects.toMatchObject({ code: 'invalid' });
    expect(storage.size).toBe(0);
  });
});

test('many pieces: more than one L2 table is dirty at a time, and all end on disk', async () => {
  const image = await memoryImage({
    size: 40 * 1024 * 1024,
    clusterSize: 512,
    preallocation: 'metadata',
  });
  await expectSound((await reopened(image)).storage);
});
