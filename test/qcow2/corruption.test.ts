// Structures that contradict each other, met while an image is written to: the write stops, the
// header says so for good, and nothing else is written.

import { describe, expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { corruptionBehind } from '../../src/qcow2/corruption.ts';
import { viewOf as dataView } from '../../src/qcow2/fields.ts';
import { parseHeader } from '../../src/qcow2/header.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { createSnapshot } from '../../src/qcow2/snapshot-changes.ts';
import { expectBytes, memoryImage, memoryOf, viewOf } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

const CLUSTER = 512;
const SIZE = 100 * CLUSTER;
const COPIED = 1n << 63n;

interface Places {
  readonly view: DataView;
  /** Of the tables. */
  readonly l1: number;
  readonly l2: number;
  readonly refcountTable: number;
  readonly refcountBlock: number;
}

/** An image with data in its first clusters and one snapshot, broken by `damage`. */
async function broken(
  damage: (places: Places) => void,
  { version = 3 as 2 | 3, snapshot = false } = {},
): Promise<MemoryStorage> {
  const image = await memoryImage({ size: SIZE, clusterSize: CLUSTER, version });
  await image.write(0, pattern(4 * CLUSTER, 1));
  if (snapshot) {
    await createSnapshot(image, { name: 's', seconds: 1, nanoseconds: 0 });
    await image.write(0, pattern(4 * CLUSTER, 2));
  }
  await image.close();
  const bytes = memoryOf(image).bytes();
  const view = dataView(bytes);
  const pointer = (at: number) => Number(view.getBigUint64(at) & ~COPIED);
  const { l1TableOffset: l1, refcountTableOffset: refcountTable } = parseHeader(bytes);
  damage({ view, l1, l2: pointer(l1), refcountTable, refcountBlock: pointer(refcountTable) });
  return new MemoryStorage(bytes);
}

const flip = (view: DataView, at: number) => view.setUint8(at + 6, view.getUint8(at + 6) ^ 2);
const point = (view: DataView, at: number, host: number) =>
  view.setBigUint64(at, COPIED | BigInt(host));

const overlap = (what: string) => `Preventing invalid write on metadata (overlaps with ${what})`;

describe.each<[string, (places: Places) => void, string | RegExp]>([
  ['the header', ({ view, refcountBlock }) => view.setUint16(refcountBlock, 0), /qcow2_header/],
  ['L1 table', ({ view, l1, l2 }) => point(view, l2 + 8, l1), overlap('active L1 table')],
  ['L2 table', ({ view, l2 }) => point(view, l2 + 8, l2), overlap('active L2 table')],
  [
    'refcount table',
    ({ view, l2, refcountTable }) => point(view, l2 + 8, refcountTable),
    overlap('refcount table'),
  ],
  [
    'refcount block',
    ({ view, l2, refcountBlock }) => point(view, l2 + 8, refcountBlock),
    overlap('refcount block'),
  ],
  [
    'refcount table, taken for an L2 table',
    ({ view, l1, refcountTable }) => point(view, l1, refcountTable),
    overlap('refcount table'),
  ],
  ['L1 entry', ({ view, l1 }) => point(view, l1, 8 * CLUSTER + 7 * 2 ** 41), /past the end/],
  ['data cluster', ({ view, l2 }) => point(view, l2 + 8, 2 ** 40), /past the end/],
  [
    'refcount',
    ({ view, l2, refcountBlock }) =>
      view.setUint16(
        refcountBlock + 2 * (Number(view.getBigUint64(l2 + 8) & ~COPIED) / CLUSTER),
        0,
      ),
    /^Cluster at offset .* is marked as used once, but its refcount is 0$/,
  ],
])('%s', (name, damage, words) => {
  /** What the first clusters hold, or a new one where the header seems to be free. */
  const write = (image: Qcow2Image) =>
    image.write(name === 'the header' ? 50 * CLUSTER : CLUSTER, pattern(2 * CLUSTER, 3));

  test('is noted, once and for good', async () => {
    const storage = await broken(damage);
    const before = storage.bytes();
    const image = await Qcow2Image.open(storage);
    const error: unknown = await write(image).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'corrupt', errno: 'EIO' });
    expect(corruptionBehind(error)).toMatchObject({
      marked: true,
      words: typeof words === 'string' ? words : expect.stringMatching(words),
    });
    await expect(image.write(90 * CLUSTER, pattern(CLUSTER, 4))).rejects.toBe(error);
    await image.close().catch(() => undefined);
    // Bit 1 of the incompatible features, and nothing else.
    before[79] = 2;
    expectBytes(storage.bytes().subarray(0, before.length), before);
    const again = await Qcow2Image.open(storage);
    expect(again.corrupt).toBe(true);
    await expect(write(again)).rejects.toMatchObject({
      message: 'qcow2: Image is corrupt; cannot be opened read/write',
    });
  });

  test('can not be noted in version 2, and stops the write all the same', async () => {
    const storage = await broken(damage, { version: 2 });
    const before = storage.bytes();
    const image = await Qcow2Image.open(storage);
    await expect(write(image)).rejects.toMatchObject({ code: 'corrupt' });
    await expect(image.write(90 * CLUSTER, pattern(CLUSTER, 4))).rejects.toThrow();
    expectBytes(storage.bytes().subarray(0, before.length), before);
  });
});

test.each<[string, (places: Places) => void, string]>([
  ['L2 table', ({ view, l1 }) => flip(view, l1), 'L2 table offset 0x.* unaligned .L1 index: 0.'],
  [
    'cluster',
    ({ view, l2 }) => view.setBigUint64(l2 + 8, view.getBigUint64(l2 + 8) | 512n),
    'Data cluster offset 0x.* unaligned .guest offset: 0x400.',
  ],
])('an unaligned %s, with larger clusters', async (_what, damage, words) => {
  const image = await memoryImage({ size: SIZE, clusterSize: 1024 });
  await image.write(0, pattern(4096, 1));
  await image.close();
  const bytes = memoryOf(image).bytes();
  const view = dataView(bytes);
  const l1 = parseHeader(bytes).l1TableOffset;
  const l2 = Number(view.getBigUint64(l1) & ~COPIED);
  damage({ view, l1, l2, refcountTable: 0, refcountBlock: 0 });
  const storage = new MemoryStorage(bytes);
  const opened = await Qcow2Image.open(storage);
  const error: unknown = await opened
    .write(1024, pattern(512, 2))
    .catch((reason: unknown) => reason);
  expect(corruptionBehind(error)?.words).toMatch(new RegExp(`^${words}`));
  expect((await Qcow2Image.open(storage)).corrupt).toBe(true);
});

test.each(['snapshot table', 'inactive L1 table'])(
  'nothing is written over the %s',
  async (what) => {
    const storage = await broken(
      ({ view, l2 }) => {
        const table = Number(view.getBigUint64(64));
        const snapshotL1 = Number(view.getBigUint64(table));
        point(view, l2 + 8, what === 'snapshot table' ? table : snapshotL1);
      },
      { snapshot: true },
    );
    const image = await Qcow2Image.open(storage);
    const error: unknown = await image
      .write(0, pattern(SIZE, 3))
      .catch((reason: unknown) => reason);
    expect(corruptionBehind(error)?.words).toBe(overlap(what));
    expect((await Qcow2Image.open(storage)).corrupt).toBe(true);
  },
);

test('reading tells of it and notes nothing', async () => {
  const storage = await broken(({ view, l2 }) => point(view, l2 + 8, 2 ** 40));
  const before = storage.bytes();
  const image = await Qcow2Image.open(storage);
  const error: unknown = await viewOf(image).catch((reason: unknown) => reason);
  expect(corruptionBehind(error)).toMatchObject({ marked: false });
  await image.close();
  expectBytes(storage.bytes(), before);
});

test('what is broken below is not noted above', async () => {
  const below = await Qcow2Image.open(await broken(({ view, l2 }) => point(view, l2 + 8, 2 ** 40)));
  const image = await memoryImage({ size: SIZE, clusterSize: 4096, backingFile: 'below' });
  image.backing = below;
  const error: unknown = await image.write(0, pattern(100, 1)).catch((reason: unknown) => reason);
  expect(corruptionBehind(error)).toMatchObject({ marked: false });
  image.backing = null;
  const [storage, other] = [image.storage, below.storage];
  for (const each of [storage, other]) expect((await Qcow2Image.open(each)).corrupt).toBe(false);
});
