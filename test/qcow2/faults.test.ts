// Writes that fail: the call rejects with the error, nothing that was there before is lost, and no
// reference to a free cluster gets into the file.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ImageError } from '../../src/errors.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { resizeImage } from '../../src/qcow2/resize-image.ts';
import {
  expectBytes,
  findingsIn,
  memoryImage,
  memoryOf,
  viewOf,
} from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';
import { type Change, WatchedStorage } from '../support/watched-host.ts';

const SIZE = 300 * 512;

type Work = (image: Qcow2Image) => Promise<void>;

const WORKS: readonly [string, Work][] = [
  ['writing', (image) => image.write(5000, pattern(60_000, 2))],
  ['zeroing', (image) => image.zero(5000, 60_000)],
  ['growing', (image) => image.grow(4 * SIZE)],
  ['growing, all of it mapped', (image) => resizeImage(image, 4 * SIZE, 'metadata')],
  ['shrinking', (image) => resizeImage(image, 45_056, 'off')],
  ['emptying', (image) => image.empty()],
];

async function filledBytes(extendedL2 = false): Promise<Uint8Array> {
  const clusterSize = extendedL2 ? 16384 : 512;
  const image = await memoryImage({ size: SIZE, clusterSize, extendedL2 });
  await image.write(20_000, pattern(30_000, 1));
  await image.close();
  return memoryOf(image).bytes();
}

/** Runs `work` and a flush on an image whose change number `n` and those after it fail. */
async function runWithFault(work: Work, n: number, extendedL2: boolean) {
  const storage = new MemoryStorage(await filledBytes(extendedL2));
  let count = 0;
  const error = new ImageError('no-space', 'full', { errno: 'ENOSPC' });
  const watch = (change: Change) => {
    if (change.kind !== 'flush' && ++count > n) throw error;
  };
  const image = await Qcow2Image.open(new WatchedStorage(storage, watch), { cacheBytes: 0 });
  const run = async () => {
    await work(image);
    await image.flush();
  };
  const outcome = await run().then(
    () => 'done' as const,
    (reason: unknown) => reason,
  );
  await image.close().catch(() => undefined);
  return { storage, outcome, error };
}

const CASES = [false, true].flatMap((extendedL2) =>
  WORKS.map(
    ([what, work]) => [extendedL2 ? `${what} subclusters` : what, work, extendedL2] as const,
  ),
);

test.each(CASES)('%s on a disk that is full from the n-th write on', async (_what, work, ext) => {
  for (let n = 0; ; n++) {
    const { storage, outcome, error } = await runWithFault(work, n, ext);
    const { corruptions, messages } = await findingsIn(storage);
    expect({ n, corruptions, messages: corruptions === 0 ? [] : messages }).toEqual({
      n,
      corruptions: 0,
      messages: [],
    });
    if (outcome === 'done') break;
    expect(outcome).toBe(error);
  }
});

test('a write that failed leaves the rest of the disk alone, and can be repeated', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(SIZE - 1), fc.integer({ min: 1, max: 9000 }), async (at, wanted) => {
      const length = Math.min(wanted, SIZE - at);
      const storage = new MemoryStorage(await filledBytes());
      let fails = true;
      const watch = (change: Change) => {
        if (fails && change.kind === 'write' && change.what === 'data') {
          throw new ImageError('io', 'broken', { errno: 'EIO' });
        }
      };
      const image = await Qcow2Image.open(new WatchedStorage(storage, watch));
      const before = await viewOf(image);
      const broken = image.write(at, pattern(length, 7));
      await expect(broken).rejects.toMatchObject({ errno: 'EIO' });
      expectBytes(await viewOf(image), before);
      fails = false;
      await image.write(at, pattern(length, 7));
      await image.close();
      before.set(pattern(length, 7), at);
      expectBytes(await viewOf(await Qcow2Image.open(storage)), before);
      expect(await findingsIn(storage)).toEqual({ corruptions: 0, leaks: 0, messages: [] });
    }),
  );
});

test('after a failed checkpoint no more metadata is written', async () => {
  const storage = new MemoryStorage(await filledBytes());
  const error = new ImageError('io', 'broken', { errno: 'EIO' });
  let fails = false;
  const watch = (change: Change) => {
    if (fails && change.kind === 'flush') throw error;
  };
  const image = await Qcow2Image.open(new WatchedStorage(storage, watch));
  await image.write(0, pattern(5000, 3));
  fails = true;
  await expect(image.flush()).rejects.toBe(error);
  fails = false;
  await expect(image.flush()).rejects.toBe(error);
  await expect(image.close()).rejects.toBe(error);
  expect((await findingsIn(storage)).corruptions).toBe(0);
});
