// Many ranges that move into an image at once: where they go, and what is left where it ends early.

import { describe, expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { type PlacedRange, PlacedRanges } from '../../src/io/placed-ranges.ts';
import type { Storage, WriteKind } from '../../src/io/storage.ts';
import type { MoveWatch } from '../../src/layer.ts';
import { GuardedStorage } from '../../src/qcow2/guarded-storage.ts';
import type { Qcow2Image } from '../../src/qcow2/image.ts';
import { expectSound, imageIn, viewOf } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

const CLUSTER = 4096;
const COUNT = 1200;

/** Counts what is written as data; from the n-th such request on it fails, if told so. */
class WatchedStorage extends MemoryStorage {
  requests = 0;
  failsFrom = Number.POSITIVE_INFINITY;

  override async write(offset: number, source: Uint8Array, kind: WriteKind): Promise<void> {
    if (kind === 'data' && ++this.requests >= this.failsFrom) throw new Error('no more');
    await super.write(offset, source, kind);
  }

  override async copyFrom(): Promise<number> {
    return 0;
  }
}

const BYTES = pattern(COUNT * CLUSTER, 7);

/** Each other cluster of the disk; in the source they lie one behind the other, in another order. */
function scattered(source: Storage): PlacedRange[] {
  return Array.from({ length: COUNT }, (_, i) => {
    const host = { storage: source, offset: ((i * 7) % COUNT) * CLUSTER };
    return { offset: 2 * i * CLUSTER, length: CLUSTER, host };
  });
}

async function moved(image: Qcow2Image, watch?: MoveWatch): Promise<Uint8Array> {
  const ranges = scattered(new MemoryStorage(BYTES));
  expect(await image.moveRanges(PlacedRanges.of(ranges), watch)).toBe(COUNT);
  const disk = new Uint8Array(image.size);
  for (const { offset, host } of ranges) {
    disk.set(BYTES.subarray(host.offset, host.offset + CLUSTER), offset);
  }
  return disk;
}

async function emptyImage(): Promise<{ storage: WatchedStorage; image: Qcow2Image }> {
  const storage = new WatchedStorage();
  const size = 2 * COUNT * CLUSTER;
  return { storage, image: await imageIn(storage, { size, clusterSize: CLUSTER }) };
}

describe('clusters of many places on the disk', () => {
  test('that lie together in their source are written together', async () => {
    const { storage, image } = await emptyImage();
    let told = 0;
    const disk = await moved(image, { moved: (bytes) => (told += bytes) });
    // Somewhat more than one for each MiB, as tables come between.
    expect(storage.requests).toBeLessThan(12);
    expect(told).toBe(BYTES.length);
    await image.flush();
    expect(Buffer.compare(await viewOf(image), disk)).toBe(0);
    await expectSound(storage);
  });

  test('that have their places already go there, in the order of the disk', async () => {
    const { storage, image } = await emptyImage();
    await image.write(0, new Uint8Array(image.size).fill(1));
    await image.flush();
    const before = storage.size;
    const disk = await moved(image);
    for (let at = CLUSTER; at < disk.length; at += 2 * CLUSTER) disk.fill(1, at, at + CLUSTER);
    await image.flush();
    expect(storage.size).toBe(before);
    expect(Buffer.compare(await viewOf(image), disk)).toBe(0);
    await expectSound(storage);
  });

  test('where one fails, what has moved is kept and the rest given back', async () => {
    const { storage, image } = await emptyImage();
    storage.failsFrom = 3;
    await expect(
      image.moveRanges(PlacedRanges.of(scattered(new MemoryStorage(BYTES)))),
    ).rejects.toThrow('no more');
    storage.failsFrom = Number.POSITIVE_INFINITY;
    await image.flush();
    const extents = await image.extents(0, image.size);
    expect(extents.some(({ kind }) => kind === 'data')).toBe(true);
    await expectSound(storage);
    const disk = await moved(image);
    await image.flush();
    expect(Buffer.compare(await viewOf(image), disk)).toBe(0);
    await expectSound(storage);
  });

  test('stop with the reason of the signal before the next piece', async () => {
    const { storage, image } = await emptyImage();
    const signal = AbortSignal.abort('enough');
    const move = image.moveRanges(PlacedRanges.of(scattered(new MemoryStorage(BYTES))), { signal });
    await expect(move).rejects.toBe('enough');
    expect(storage.requests).toBe(0);
    await image.flush();
    await expectSound(storage);
  });
});

test('events are there only where somebody listens, also over others', () => {
  const quiet = new MemoryStorage();
  expect(GuardedStorage.over(quiet).event).toBeUndefined();
  const heard: string[] = [];
  const listening = Object.assign(new MemoryStorage(), {
    event: (name: string) => heard.push(name),
  });
  GuardedStorage.over(listening).event?.('read_aio');
  expect(heard).toEqual(['read_aio']);
});
