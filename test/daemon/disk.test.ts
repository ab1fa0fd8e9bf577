// A disk in use: what it refuses, what keeps its space, what it tells, and how its layer is swapped.

import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { Disk } from '../../src/daemon/disk.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import { nodeHost } from '../../src/io/node-host.ts';
import { RawImage } from '../../src/raw/raw.ts';
import { turns } from '../support/jittery-host.ts';
import { expectBytes, memoryImage, viewOf } from '../support/memory-images.ts';
import { qemuImg } from '../support/qemu.ts';
import { pattern } from '../support/storage-contract.ts';
import { tempDir } from '../support/temp.ts';

const CLUSTER = 4096;
const SIZE = 64 * CLUSTER;

const image = () => memoryImage({ size: SIZE, clusterSize: CLUSTER });

const runsOf = (disk: Disk) => disk.status(0, SIZE, 1000);

describe('a disk that is read-only', () => {
  test('refuses changes, and answers all else', async () => {
    const layer = await image();
    await layer.write(0, pattern(CLUSTER, 1));
    const disk = new Disk(layer, { readOnly: true });
    const readOnly = { code: 'read-only', errno: 'EROFS' };
    await expect(disk.write(0, new Uint8Array(1))).rejects.toMatchObject(readOnly);
    await expect(disk.zero(0, 1)).rejects.toMatchObject(readOnly);
    await expect(disk.discard(0, 1)).rejects.toMatchObject(readOnly);
    await disk.flush();
    const bytes = new Uint8Array(CLUSTER);
    await disk.read(0, bytes);
    expectBytes(bytes, pattern(CLUSTER, 1));
  });
});

describe('zeros', () => {
  test('that must keep their space are written where there is some', async () => {
    const layer = await image();
    await layer.write(0, pattern(4 * CLUSTER, 1));
    const disk = new Disk(layer);
    await disk.zero(100, 3 * CLUSTER, { mayPunch: false });
    await disk.zero(8 * CLUSTER, CLUSTER, { mayPunch: false });
    expect(await runsOf(disk)).toEqual([
      { length: 4 * CLUSTER, hole: false, zero: false },
      { length: SIZE - 4 * CLUSTER, hole: true, zero: true },
    ]);
    const expected = new Uint8Array(SIZE);
    expected.set(pattern(4 * CLUSTER, 1));
    expected.fill(0, 100, 100 + 3 * CLUSTER);
    expectBytes(await viewOf(layer), expected);
  });

  test('that may give it up become zero clusters', async () => {
    const layer = await image();
    await layer.write(0, pattern(4 * CLUSTER, 1));
    const disk = new Disk(layer);
    await disk.zero(0, 2 * CLUSTER);
    expect((await runsOf(disk))[0]).toEqual({ length: 2 * CLUSTER, hole: true, zero: true });
  });

  test.each([
    ['a whole cluster, and the ends of others', 100, 2 * CLUSTER, true],
    ['the end of the disk', SIZE - CLUSTER, CLUSTER, true],
    ['parts of clusters', 100, CLUSTER, false],
  ])('are fast, or refused: %s', async (_what, offset, length, isFast) => {
    const layer = await image();
    await layer.write(0, pattern(SIZE, 1));
    const disk = new Disk(layer);
    const zeroing = disk.zero(offset, length, { fast: true });
    if (isFast) await zeroing;
    else await expect(zeroing).rejects.toMatchObject({ errno: 'ENOTSUP' });
    const expected = pattern(SIZE, 1);
    if (isFast) expected.fill(0, offset, offset + length);
    expectBytes(await viewOf(layer), expected);
  });

  test('are not fast where space has to be kept, nor in version 2 over a backing file', async () => {
    const layer = await image();
    await layer.write(0, pattern(4 * CLUSTER, 1));
    const kept = new Disk(layer).zero(0, 2 * CLUSTER, { fast: true, mayPunch: false });
    await expect(kept).rejects.toMatchObject({ errno: 'ENOTSUP' });
    const old = await memoryImage({ size: SIZE, clusterSize: CLUSTER, version: 2 });
    const asked = new Disk(old).zero(0, 2 * CLUSTER, { fast: true });
    await expect(asked).rejects.toMatchObject({ errno: 'ENOTSUP' });
  });
});

describe('discarding', () => {
  test('gives whole clusters back, where it may', async () => {
    const layer = await image();
    await layer.write(0, pattern(4 * CLUSTER, 1));
    await new Disk(layer).discard(0, 4 * CLUSTER);
    expectBytes(
      await viewOf(layer),
      new Uint8Array([...pattern(4 * CLUSTER, 1), ...new Uint8Array(SIZE - 4 * CLUSTER)]),
    );
    const disk = new Disk(layer, { unmap: true });
    await disk.discard(100, 3 * CLUSTER);
    expect(await runsOf(disk)).toEqual([
      { length: CLUSTER, hole: false, zero: false },
      { length: 2 * CLUSTER, hole: true, zero: true },
      { length: CLUSTER, hole: false, zero: false },
      { length: SIZE - 4 * CLUSTER, hole: true, zero: true },
    ]);
  });
});

describe('runs', () => {
  test('are no more than are asked for, and no longer than 32 bits', async () => {
    const layer = await memoryImage({ size: 10 * 2 ** 30, clusterSize: 65536 });
    const disk = new Disk(layer);
    const all = await disk.status(0, layer.size, 100);
    expect(all.length).toBeGreaterThan(2);
    expect(all.every(({ length }) => length < 2 ** 32)).toBe(true);
    expect(all.reduce((sum, { length }) => sum + length, 0)).toBe(layer.size);
    expect((await disk.depths(0, layer.size, 1)).length).toBe(1);
  });

  test('of bitmaps follow what is being written', async () => {
    const file = join(tempDir(), 'disk.qcow2');
    await qemuImg('create', '-q', '-f', 'qcow2', file, '8M');
    await qemuImg('bitmap', '--add', '-g', '64k', file, 'b0');
    const chain = await openChain(file, { host: nodeHost, writable: true });
    onTestFinished(() => chain.close());
    const disk = new Disk(chain.top);
    await disk.write(70_000, pattern(10, 1));
    await disk.write(200_000, pattern(100_000, 1));
    expect(await disk.dirty('b0', 0, 524288, 100)).toEqual([
      { length: 65536, dirty: false },
      { length: 65536, dirty: true },
      { length: 65536, dirty: false },
      { length: 131072, dirty: true },
      { length: 196608, dirty: false },
    ]);
    expect(await disk.dirty('b0', 70_000, 200_000, 2)).toEqual([
      { length: 61072, dirty: true },
      { length: 65536, dirty: false },
    ]);
    await expect(disk.dirty('b9', 0, 512, 1)).rejects.toMatchObject({ code: 'not-found' });
  });
});

describe('another layer', () => {
  const memory = (seed: number, size = SIZE) =>
    new RawImage(new MemoryStorage(pattern(size, seed)));

  test('takes over between two requests', async () => {
    const disk = new Disk(memory(1));
    const order: string[] = [];
    const release = await disk.hold();
    const writing = disk.write(0, pattern(10, 3)).then(() => order.push('written'));
    await turns(5);
    expect(order).toEqual([]);
    const swapping = disk.replace(memory(2), async () => {
      await turns(5);
      order.push('swapped');
    });
    release();
    await Promise.all([writing, swapping]);
    expect(order).toEqual(['swapped', 'written']);
    const bytes = new Uint8Array(20);
    await disk.read(0, bytes);
    expectBytes(bytes, new Uint8Array([...pattern(10, 3), ...pattern(SIZE, 2).subarray(10, 20)]));
  });

  test('is refused with another size; what fails before it leaves the old one', async () => {
    const first = memory(1);
    const disk = new Disk(first);
    await expect(disk.replace(memory(2, 2 * SIZE))).rejects.toMatchObject({ code: 'invalid' });
    const failing = disk.replace(memory(2), () => Promise.reject(new Error('no')));
    await expect(failing).rejects.toThrow('no');
    expect(disk.layer).toBe(first);
    await disk.write(0, pattern(10, 3));
  });
});
