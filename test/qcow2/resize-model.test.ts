// A disk is an array of bytes that gets other sizes: random writes and resizes in both directions read
// the same as the array, what a disk grows by is zeros, and a check finds nothing after each resize.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { addBitmap } from '../../src/qcow2/bitmap-edit.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { resizeImage } from '../../src/qcow2/resize-image.ts';
import { createSnapshot } from '../../src/qcow2/snapshot-changes.ts';
import { RawImage } from '../../src/raw/raw.ts';
import { expectBytes, expectSound, viewOf } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

const SECTOR = 512;
const MOST = 900;
const MODES = ['off', 'metadata', 'falloc', 'full'] as const;

const operation = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constantFrom('write' as const, 'write' as const, 'zero' as const),
      at: fc.double({ min: 0, max: 0.999, noNaN: true }),
      length: fc.integer({ min: 1, max: 60_000 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('resize' as const),
      sectors: fc.integer({ min: 1, max: MOST }),
      mode: fc.constantFrom(...MODES),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom('snapshot' as const, 'reopen' as const) }),
  },
);

const shapes = fc.record({
  version: fc.constantFrom(2 as const, 3 as const, 3 as const),
  /** 16 KiB: with extended L2 entries. */
  clusterSize: fc.constantFrom(512, 512, 1024, 4096, 16384),
  refcountBits: fc.constantFrom(1, 8, 16, 64),
  /** Sectors of the backing file; 0: there is none. */
  backed: fc.constantFrom(0, 40, MOST),
  sectors: fc.constantFrom(1, 300, 301),
  bitmap: fc.boolean(),
});

interface World {
  image: Qcow2Image;
  readonly storage: MemoryStorage;
  readonly backing: RawImage | null;
  model: Uint8Array;
  snapshots: number;
}

async function apply(
  world: World,
  each: typeof operation extends fc.Arbitrary<infer T> ? T : never,
  n: number,
): Promise<void> {
  const { image, model } = world;
  if (each.kind === 'write' || each.kind === 'zero') {
    const at = Math.floor(each.at * model.length);
    const length = Math.min(each.length, model.length - at);
    const bytes = each.kind === 'write' ? pattern(length, n + 1) : new Uint8Array(length);
    if (each.kind === 'write') await image.write(at, bytes);
    else await image.zero(at, length);
    model.set(bytes, at);
  } else if (each.kind === 'resize') {
    if (image.header.version < 3 && image.header.nbSnapshots > 0) return;
    const size = each.sectors * SECTOR;
    const next = new Uint8Array(size);
    next.set(model.subarray(0, size));
    world.model = next;
    await resizeImage(image, size, each.mode);
    expect(image.size).toBe(size);
    await expectSound(world.storage);
  } else if (each.kind === 'snapshot') {
    if (image.geometry.refcountBits === 1) return;
    await createSnapshot(image, { name: `s${world.snapshots++}`, seconds: 1, nanoseconds: 0 });
  } else {
    await image.close();
    world.image = await open(world.storage, world.backing);
  }
  expectBytes(await viewOf(world.image), world.model);
}

async function open(storage: MemoryStorage, backing: RawImage | null): Promise<Qcow2Image> {
  const image = await Qcow2Image.open(storage);
  image.backing = backing;
  return image;
}

test('reads as an array of that size', { timeout: 120_000 }, () =>
  fc.assert(
    fc.asyncProperty(shapes, fc.array(operation, { maxLength: 14 }), async (shape, operations) => {
      const { version, clusterSize, backed, sectors, bitmap } = shape;
      const extendedL2 = clusterSize === 16384;
      const refcountBits = version === 2 && !extendedL2 ? 16 : shape.refcountBits;
      const below = pattern(backed * SECTOR, 99);
      const backing = backed > 0 ? new RawImage(new MemoryStorage(below)) : null;
      const storage = new MemoryStorage();
      await createImage(storage, {
        ...{ version: extendedL2 ? 3 : version, clusterSize, refcountBits, extendedL2 },
        size: sectors * SECTOR,
        ...(backing !== null && { backingFile: 'base', backingFormat: 'raw' }),
      });
      const model = new Uint8Array(sectors * SECTOR);
      model.set(below.subarray(0, model.length));
      const world: World = {
        ...{ image: await open(storage, backing), storage, backing },
        ...{ model, snapshots: 0 },
      };
      if (bitmap && world.image.header.version > 2) {
        await world.image.changeBitmaps(async (bitmaps) => {
          addBitmap(bitmaps, world.image, 'b', 512);
        });
      }
      for (const [n, each] of operations.entries()) await apply(world, each, n);
      await world.image.close();
      await expectSound(storage);
      expectBytes(await viewOf(await open(storage, backing)), world.model);
    }),
    { numRuns: 150, seed: 20261128 },
  ),
);
