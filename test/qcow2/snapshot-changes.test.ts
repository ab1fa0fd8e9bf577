// Snapshots taken, gone back to and deleted, between writes, zeros and growth: the disk and each
// snapshot read as the arrays that they stand for, and a check finds nothing, ever.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { writeField } from '../../src/qcow2/fields.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { applySnapshot, createSnapshot, deleteSnapshot } from '../../src/qcow2/snapshot-changes.ts';
import { HEADER } from '../../src/qcow2/spec.ts';
import {
  expectBytes,
  expectSound,
  memoryImage,
  memoryOf,
  viewOf,
} from '../support/memory-images.ts';
import { expectSnapshots, SnapshotModel } from '../support/snapshot-model.ts';
import { pattern } from '../support/storage-contract.ts';

const SECTOR = 512;
const SECTORS = 200;
const NOW = { seconds: 1_700_000_000, nanoseconds: 123_000_000 };

const range = { at: fc.nat(SECTORS - 1), count: fc.integer({ min: 1, max: 90 }) };
const pick = fc.nat(3);
const operation = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constantFrom('write', 'write', 'zero'), ...range }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constantFrom('create', 'create', 'apply', 'delete'), pick }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom('empty', 'reopen', 'grow', 'flush') }),
  },
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

const shapes = fc.record({
  version: fc.constantFrom(2 as const, 3 as const, 3 as const),
  clusterSize: fc.constantFrom(512, 512, 1024, 4096),
  refcountBits: fc.constantFrom(2, 4, 8, 16, 32, 64),
});

async function apply(
  image: Qcow2Image,
  model: SnapshotModel,
  op: Operation,
  seed: number,
  version: number,
): Promise<void> {
  if ('at' in op) {
    const count = Math.min(op.count, image.size / SECTOR - op.at);
    if (count <= 0) return;
    const bytes =
      op.kind === 'zero' ? new Uint8Array(count * SECTOR) : pattern(count * SECTOR, seed);
    if (op.kind === 'zero') await image.zero(op.at * SECTOR, bytes.length);
    else await image.write(op.at * SECTOR, bytes);
    model.disk.set(bytes, op.at * SECTOR);
  } else if ('pick' in op) await changeSnapshots(image, model, op.kind, op.pick, seed);
  else if (op.kind === 'empty') {
    await image.empty();
    model.disk.fill(0);
  } else if (op.kind === 'grow' && (version === 3 || model.snapshots.length === 0)) {
    await image.grow(image.size + 30 * SECTOR);
    model.resize(image.size);
  } else await image.flush();
}

async function changeSnapshots(
  image: Qcow2Image,
  model: SnapshotModel,
  kind: string,
  choice: number,
  seed: number,
): Promise<void> {
  if (kind === 'create') {
    // With refcounts of two bits there is room for two, beside the active state.
    if (model.snapshots.length >= image.geometry.maxRefcount - 1) return;
    await createSnapshot(image, { name: `s${seed}`, ...NOW });
    model.create(`s${seed}`);
    return;
  }
  const name = model.snapshots[choice % Math.max(1, model.snapshots.length)]?.name;
  if (name === undefined) return;
  if (kind === 'apply') {
    await applySnapshot(image, name);
    model.apply(name);
  } else {
    await deleteSnapshot(image, name);
    model.delete(name);
  }
}

test(
  'any series of changes: disk and snapshots stay what they are, nothing leaks',
  {
    timeout: 120_000,
  },
  () =>
    fc.assert(
      fc.asyncProperty(
        shapes,
        fc.array(operation, { minLength: 3, maxLength: 14 }),
        async (shape, operations) => {
          const refcountBits = shape.version === 2 ? 16 : shape.refcountBits;
          const options = { ...shape, refcountBits, size: SECTORS * SECTOR };
          const storage = new MemoryStorage();
          let image = await createImage(storage, options);
          const model = new SnapshotModel(SECTORS * SECTOR);
          for (const [seed, op] of operations.entries()) {
            await apply(image, model, op, seed + 1, shape.version);
            expectBytes(await viewOf(image), model.disk, `the disk after ${op.kind}`);
            if (op.kind !== 'reopen') continue;
            await image.close();
            image = await Qcow2Image.open(storage, { cacheBytes: 0 });
          }
          await image.close();
          await expectSound(storage);
          await expectSnapshots(storage.bytes(), model);
        },
      ),
      { numRuns: 150 },
    ),
);

describe('what is refused leaves the file as it is', () => {
  async function refused(
    image: Qcow2Image,
    work: (image: Qcow2Image) => Promise<void>,
    details: object,
  ): Promise<void> {
    await image.flush();
    const storage = memoryOf(image);
    const before = storage.bytes();
    await expect(work(image)).rejects.toMatchObject(details);
    expectBytes(storage.bytes(), before);
  }
  const one = (image: Qcow2Image) => createSnapshot(image, { name: 'one', ...NOW });

  test.each([1, 2])('a refcount of %d bits that would overflow', async (refcountBits) => {
    const image = await memoryImage({ size: 8192, clusterSize: 512, refcountBits });
    await image.write(0, pattern(4096, 1));
    for (let i = 1; i < image.geometry.maxRefcount; i++) await one(image);
    await refused(image, one, { errno: 'EINVAL' });
    if (refcountBits > 1)
      await refused(image, (it) => applySnapshot(it, 'two'), { errno: 'ENOENT' });
  });

  test('a snapshot that is not there', async () => {
    const image = await memoryImage({ size: 8192, clusterSize: 512 });
    await refused(image, (it) => applySnapshot(it, 'no'), { errno: 'ENOENT' });
    await refused(image, (it) => deleteSnapshot(it, 'no'), { errno: 'ENOENT' });
  });

  test('a device without room', async () => {
    const image = await memoryImage({ size: 8192, clusterSize: 512 });
    await image.write(0, pattern(8192, 1));
    await image.close();
    const storage = new MemoryStorage(memoryOf(image).bytes());
    Object.defineProperty(storage, 'resizable', { value: false });
    const full = await Qcow2Image.open(storage);
    await expect(one(full)).rejects.toMatchObject({ code: 'no-space' });
    await full.close();
    await expectSound(storage);
    expectBytes(await viewOf(await Qcow2Image.open(storage)), await viewOf(full));
  });

  test('another size of a version 2 disk', async () => {
    const image = await memoryImage({ size: 8192, clusterSize: 512, version: 2 });
    await one(image);
    const bytes = memoryOf(image).bytes();
    // The size of the disk, as the header has it.
    new DataView(bytes.buffer).setUint32(28, 16384);
    const other = await Qcow2Image.open(new MemoryStorage(bytes));
    await refused(other, (it) => applySnapshot(it, 'one'), { errno: 'ENOTSUP' });
  });
});

test('a disk gets back the size that it had, smaller and larger', async () => {
  const image = await memoryImage({ size: 8192, clusterSize: 512 });
  await image.write(0, pattern(8192, 1));
  await createSnapshot(image, { name: 'small', ...NOW });
  await image.grow(400 * SECTOR);
  await image.write(300 * SECTOR, pattern(4096, 2));
  const large = await viewOf(image);
  await createSnapshot(image, { name: 'large', ...NOW });
  await applySnapshot(image, 'small');
  expect(image.size).toBe(8192);
  expectBytes(await viewOf(image), pattern(8192, 1));
  await applySnapshot(image, '2');
  expectBytes(await viewOf(image), large);
  await image.close();
  await expectSound(image.storage);
});

test('ids go on from the largest, names may be the same, the first one is meant', async () => {
  const image = await memoryImage({ size: 8192, clusterSize: 512 });
  for (const seed of [1, 2, 3]) {
    await image.write(0, pattern(SECTOR, seed));
    await createSnapshot(image, { name: 'same', ...NOW });
  }
  await deleteSnapshot(image, 'same');
  await createSnapshot(image, { name: 'x'.repeat(300), ...NOW });
  const all = await image.snapshots();
  expect(all.map(({ id, name }) => [id, name])).toEqual([
    ['2', 'same'],
    ['3', 'same'],
    ['4', 'x'.repeat(255)],
  ]);
  await applySnapshot(image, 'same');
  expectBytes((await viewOf(image)).subarray(0, SECTOR), pattern(SECTOR, 2));
});

test('what other entries hold is kept, however long', async () => {
  const image = await memoryImage({ size: 8192, clusterSize: 512 });
  await createSnapshot(image, { name: 'kept', ...NOW });
  const [snapshot] = await image.snapshots();
  expect(snapshot).toMatchObject({ ...NOW, id: '1', icount: 0n, diskSize: 8192, vmStateSize: 0 });
  const bytes = memoryOf(image).bytes();
  const at = image.header.snapshotsOffset;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  // 40 bytes of extra data: a large state, the disk, a count of instructions, and what nobody knows.
  view.setUint32(at + 36, 40);
  view.setBigUint64(at + 40, 2n ** 33n);
  view.setBigUint64(at + 56, 77n);
  bytes.fill(0xab, at + 64, at + 80);
  bytes.set(new TextEncoder().encode('1kept'), at + 80);
  const storage = new MemoryStorage(bytes);
  const changed = await Qcow2Image.open(storage);
  await createSnapshot(changed, { name: 'other', ...NOW });
  const [kept, other] = await changed.snapshots();
  expect(kept).toMatchObject({ name: 'kept', vmStateSize: 2 ** 33, icount: 77n });
  expect([...(kept?.stored.extraData.subarray(24) ?? [])]).toEqual(Array(16).fill(0xab));
  expect(other).toMatchObject({ id: '2', name: 'other' });
  await expectSound(storage);
});

test('the state of a machine, which lies past the disk, stays with its snapshot', async () => {
  const [disk, state] = [16 * SECTOR, 80 * SECTOR];
  const image = await memoryImage({ size: 128 * SECTOR, clusterSize: 512 });
  await image.write(0, pattern(disk, 1));
  await image.write(state, pattern(4096, 2));
  await image.close();
  const bytes = memoryOf(image).bytes();
  // The disk ends within the first L2 table now; what the second one maps lies past it.
  writeField(bytes, HEADER.size, disk);
  const storage = new MemoryStorage(bytes);
  const small = await Qcow2Image.open(storage);
  const shownAtState = async (): Promise<Uint8Array> => {
    const copy = storage.bytes();
    writeField(copy, HEADER.size, 128 * SECTOR);
    const view = await viewOf(await Qcow2Image.open(new MemoryStorage(copy)));
    return view.subarray(state, state + 4096);
  };
  await createSnapshot(small, { name: 'one', ...NOW });
  expect((await small.snapshots())[0]).toMatchObject({ l1Size: 2, diskSize: disk });
  await small.empty();
  await expectSound(storage);
  expectBytes(await shownAtState(), new Uint8Array(4096));
  await applySnapshot(small, 'one');
  expectBytes(await viewOf(small), pattern(disk, 1));
  expectBytes(await shownAtState(), pattern(4096, 2));
  // A disk that grows does not show it.
  await small.grow(128 * SECTOR);
  expectBytes((await viewOf(small)).subarray(disk), new Uint8Array(112 * SECTOR));
  await applySnapshot(small, 'one');
  expectBytes(await shownAtState(), pattern(4096, 2));
  await deleteSnapshot(small, 'one');
  await small.close();
  await expectSound(storage);
  expectBytes(await shownAtState(), pattern(4096, 2));
});
