// Emptying an image: what stays, what goes, and both of its forms.

import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { writeField } from '../../src/qcow2/fields.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { HEADER } from '../../src/qcow2/spec.ts';
import { RawImage } from '../../src/raw/raw.ts';
import { MIB } from '../../src/units.ts';
import {
  expectBytes,
  expectSound,
  findingsIn,
  imageIn,
  memoryImage,
  memoryOf,
  viewOf,
} from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';
import { type Change, WatchedStorage } from '../support/watched-host.ts';

const SIZE = 200 * 512;

async function filled(options: Parameters<typeof memoryImage>[0]): Promise<Qcow2Image> {
  const image = await memoryImage(options);
  await image.write(0, pattern(image.size, 1));
  await image.flush();
  return image;
}

test('the fast form leaves header, refcount table, one block and the L1 table', async () => {
  const image = await filled({ size: SIZE, clusterSize: 4096 });
  await image.empty();
  await image.close();
  expect(image.storage.size).toBe(4 * 4096);
  await expectSound(image.storage);
});

test('the slow form, for version 2, cuts off what nobody uses any more', async () => {
  const image = await filled({ size: SIZE, clusterSize: 4096, version: 2 });
  const before = image.storage.size;
  await image.empty();
  await image.close();
  expect(image.storage.size).toBeLessThan(before - SIZE);
  await expectSound(image.storage);
});

test.each([2, 3] as const)('version %d: the backing file shows through', async (version) => {
  const options = { size: SIZE, clusterSize: 512, version, backingFile: 'base' };
  const image = await filled(options);
  const below = pattern(SIZE, 9);
  image.backing = new RawImage(new MemoryStorage(below));
  await image.empty();
  expectBytes(await viewOf(image), below);
  expect(image.header).toMatchObject({ size: SIZE, backingFile: 'base', version });
  expect(await image.extents(0, SIZE)).toEqual([{ kind: 'unallocated', offset: 0, length: SIZE }]);
});

test('it can be written to afterwards, and emptied again', async () => {
  const image = await filled({ size: SIZE, clusterSize: 512, refcountBits: 1 });
  for (let round = 0; round < 3; round++) {
    await image.empty();
    expectBytes(await viewOf(image), new Uint8Array(SIZE));
    await image.write(0, pattern(SIZE, round));
    expectBytes(await viewOf(image), pattern(SIZE, round));
  }
  await image.close();
  await expectSound(image.storage);
});

test('an image that holds nothing stays as small as it is', async () => {
  const image = await memoryImage({ size: SIZE, clusterSize: 4096 });
  await image.empty();
  const { size } = image.storage;
  await image.empty();
  await image.close();
  expect(image.storage.size).toBe(size);
  await expectSound(image.storage);
});

test('an image that is marked corrupt is refused as it is', async () => {
  const image = await filled({ size: SIZE, clusterSize: 4096 });
  const bytes = memoryOf(image).bytes();
  writeField(bytes, HEADER.incompatibleFeatures, 2n);
  const storage = new MemoryStorage(bytes);
  const corrupt = await Qcow2Image.open(storage);
  await expect(corrupt.empty()).rejects.toMatchObject({ code: 'corrupt' });
  expectBytes(storage.bytes(), bytes);
});

test('where tables take most of a block, scratch tables lie behind it; each write leaves it sound', async () => {
  // 31 clusters of L1 table; a block counts 64 clusters.
  const options = { size: 62 * MIB, clusterSize: 512, refcountBits: 64, backingFile: 'base' };
  const below = new Uint8Array(options.size);
  const written = [0, 20 * MIB, 61 * MIB];
  for (const at of written) below.set(pattern(8192, at), at);
  const file = new MemoryStorage();
  await using made = await imageIn(file, options);
  for (const at of written) await made.write(at, pattern(8192, at));
  await made.flush();

  const changes: Change[] = [];
  const watched = new WatchedStorage(file, (change) => void changes.push(change));
  const image = await Qcow2Image.open(watched);
  const state = new MemoryStorage(file.bytes().slice());
  await image.empty();
  expect(watched.size).toBe((1 + 1 + 1 + 31) * 512);
  await expectSound(file);
  const places = changes.flatMap((change) => (change.kind === 'write' ? [change.offset] : []));
  expect(Math.max(...places)).toBeGreaterThan(64 * 512);

  for (const change of changes) {
    if (change.kind === 'write') await state.write(change.offset, change.bytes, change.what);
    else if (change.kind === 'resize') await state.resize(change.size);
    expect((await findingsIn(state)).corruptions).toBe(0);
    const left = await Qcow2Image.open(state);
    left.backing = new RawImage(new MemoryStorage(below));
    for (const at of written) {
      const bytes = new Uint8Array(8192);
      await left.read(at, bytes);
      expectBytes(bytes, pattern(8192, at));
    }
  }
});
