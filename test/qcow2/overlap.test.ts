// The one place that all writes of an image pass: nothing is written over a structure as something
// else, whoever writes it and whatever it is.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import type { WriteKind } from '../../src/io/storage.ts';
import { bitmapDirectoryIn } from '../../src/qcow2/bitmap-directory.ts';
import { addBitmap } from '../../src/qcow2/bitmap-edit.ts';
import { ClusterMarks } from '../../src/qcow2/cluster-marks.ts';
import { CorruptionError } from '../../src/qcow2/corruption.ts';
import { viewOf } from '../../src/qcow2/fields.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { OVERLAP_TEMPLATES } from '../../src/qcow2/overlap.ts';
import { createSnapshot } from '../../src/qcow2/snapshot-changes.ts';
import { memoryImage, memoryOf } from '../support/memory-images.ts';

const CLUSTER = 512;
const OFFSET = 0x00ff_ffff_ffff_fe00n;

const KINDS: readonly WriteKind[] = [
  'data',
  'header',
  'l1',
  'l2',
  'refcount-table',
  'refcount-block',
  'snapshot-table',
  'bitmap',
  'bitmap-directory',
];

/** What lies where, in QEMU's words, and which kind of write belongs there. */
interface Structure {
  readonly what: string;
  readonly offset: number;
  readonly own: WriteKind | null;
}

/** An image with all kinds of structures, ready to be written. */
async function fullImage(): Promise<Qcow2Image> {
  const image = await memoryImage({ size: 100 * CLUSTER, clusterSize: CLUSTER });
  await image.write(0, new Uint8Array(4 * CLUSTER).fill(1));
  await createSnapshot(image, { name: 's', seconds: 1, nanoseconds: 0 });
  await image.write(0, new Uint8Array(2 * CLUSTER).fill(2));
  await image.changeBitmaps(async (bitmaps) => addBitmap(bitmaps, image, 'b'));
  await image.flush();
  return image;
}

async function structuresOf(image: Qcow2Image): Promise<readonly Structure[]> {
  const view = viewOf(memoryOf(image).bytes());
  const pointer = (at: number) => Number(view.getBigUint64(at) & OFFSET);
  const [snapshot] = await image.snapshots();
  const header = await Qcow2Image.readHeader(image.storage);
  const inactive = snapshot?.l1TableOffset ?? 0;
  const { l1TableOffset: l1, refcountTableOffset: refcounts, snapshotsOffset } = header;
  return [
    { what: 'qcow2_header', offset: 0, own: 'header' },
    { what: 'active L1 table', offset: l1, own: 'l1' },
    { what: 'active L2 table', offset: pointer(l1), own: 'l2' },
    { what: 'refcount table', offset: refcounts, own: 'refcount-table' },
    { what: 'refcount block', offset: pointer(refcounts), own: 'refcount-block' },
    { what: 'snapshot table', offset: snapshotsOffset, own: null },
    { what: 'inactive L1 table', offset: inactive, own: null },
    { what: 'inactive L2 table', offset: pointer(inactive), own: null },
    {
      what: 'bitmap directory',
      offset: bitmapDirectoryIn(header).offset,
      own: 'bitmap-directory',
    },
  ];
}

/** Each way to change bytes of a file. */
const WAYS: Readonly<
  Record<string, (storage: Qcow2Image['storage'], at: number, kind: WriteKind) => Promise<unknown>>
> = {
  write: (storage, at, kind) => storage.write(at, new Uint8Array(8), kind),
  zero: (storage, at, kind) => storage.zero(at, 8, kind),
  copyFrom: (storage, at) => storage.copyFrom(new MemoryStorage(new Uint8Array(8)), 0, at, 8),
  discard: (storage, at) => storage.discard(at, 8),
  allocate: (storage, at) => storage.allocate(at, 8),
};

describe.each(Object.entries(OVERLAP_TEMPLATES))('where %s are looked for', (template, guarded) => {
  test.each(Object.keys(WAYS))('by %s nothing else is written over them', async (way) => {
    const full = await fullImage();
    await full.close();
    const image = await Qcow2Image.open(memoryOf(full), { guarded: new Set(guarded) });
    await image.prepareToWrite();
    const structures = await structuresOf(image);
    const before = memoryOf(image).bytes().slice();
    const typed = way === 'write' || way === 'zero';
    const missed: string[] = [];
    for (const { what, offset, own } of structures) {
      for (const kind of typed ? KINDS : (['data'] as const)) {
        // The last bytes of the cluster: all of it is kept free for the structure.
        const written = WAYS[way]?.(image.storage, offset + CLUSTER - 8, kind);
        const error: unknown = await Promise.resolve(written).then(
          () => undefined,
          (reason: unknown) => reason,
        );
        if (kind === own) expect(error, `${kind} over ${what}`).toBe(undefined);
        else if (error === undefined) missed.push(what);
        else {
          expect(error).toBeInstanceOf(CorruptionError);
          expect(String(error)).toContain(`(overlaps with ${what}): `);
          expect(String(error)).toContain(' would go to offset 0x');
        }
        memoryOf(image).bytes().set(before);
      }
    }
    const names: Readonly<Record<string, readonly string[]>> = {
      none: structures.map(({ what }) => what),
      constant: ['active L2 table', 'refcount block', 'inactive L1 table', 'inactive L2 table'],
      cached: ['inactive L2 table'],
      all: [],
    };
    expect([...new Set(missed)]).toEqual(names[template]);
  });
});

test('tells what was to be written and what lies there', async () => {
  const image = await fullImage();
  const [, l1] = await structuresOf(image);
  const offset = l1?.offset ?? 0;
  await expect(image.storage.write(offset, new Uint8Array(8), 'data')).rejects.toThrow(
    'Preventing invalid write on metadata (overlaps with active L1 table): ' +
      `the guest's data would go to offset 0x${offset.toString(16)}`,
  );
});

test('follows the structures of an image that is opened, written and emptied', async () => {
  const image = await memoryImage({ size: 4096 * CLUSTER, clusterSize: CLUSTER });
  for (let i = 0; i < 40; i++) await image.write(i * 64 * CLUSTER, new Uint8Array(CLUSTER).fill(i));
  await image.empty();
  await image.write(0, new Uint8Array(CLUSTER).fill(7));
  await image.flush();
  const again = await Qcow2Image.open(image.storage);
  await again.write(9 * CLUSTER, new Uint8Array(CLUSTER).fill(7));
  await again.flush();
  for (const { what, offset } of (await structuresOf(again)).slice(0, 5)) {
    await expect(again.storage.write(offset, new Uint8Array(8), 'data')).rejects.toThrow(what);
  }
});

test('marks of clusters are those of a map of sets', () => {
  const cluster = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.constantFrom(2 ** 40, 2 ** 46 + 5));
  const step = fc.tuple(fc.constantFrom('add', 'drop', 'dropAll'), cluster, fc.constantFrom(1, 2));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 600 }), (steps) => {
      const marks = new ClusterMarks();
      const model = new Map<string, number>();
      for (const [what, at, mark] of steps) {
        const key = `${at} ${mark}`;
        const count = model.get(key) ?? 0;
        if (what === 'add') {
          marks.add(at, mark);
          model.set(key, count + 1);
        } else if (what === 'drop' && count > 0) {
          marks.drop(at, mark);
          model.set(key, count - 1);
        } else if (what === 'dropAll' && at < 3) {
          marks.dropAll(mark);
          for (const each of model.keys()) if (each.endsWith(` ${mark}`)) model.set(each, 0);
        }
      }
      for (const key of model.keys()) {
        const at = Number(key.split(' ')[0]);
        const expected = [1, 2].filter((mark) => (model.get(`${at} ${mark}`) ?? 0) > 0);
        expect(marks.at(at)).toBe(expected.reduce((sum, mark) => sum + mark, 0));
      }
      expect(marks.at(301)).toBe(0);
    }),
    { seed: 7 },
  );
});
