// An image is an array of bytes: random writes, zeros, growth, flushes and reopenings read the same
// as the array, and then a check finds nothing. With the smallest clusters, so that tables grow and
// caches evict within a few operations.

import fc from 'fast-check';
import { describe, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { type PlacedRange, PlacedRanges } from '../../src/io/placed-ranges.ts';
import type { CloneRange, Storage } from '../../src/io/storage.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { RawImage } from '../../src/raw/raw.ts';
import { expectBytes, expectSound, viewOf } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

const SECTOR = 512;
const SECTORS = 300;
const MOST = 900;

interface RangeOperation {
  readonly kind: 'write' | 'writeFrom' | 'clone' | 'zero';
  readonly at: number;
  readonly length: number;
}

type Operation =
  | RangeOperation
  | { readonly kind: 'grow'; readonly sectors: number }
  | { readonly kind: 'flush' | 'reopen' | 'empty' };

const range = {
  at: fc.double({ min: 0, max: 0.999, noNaN: true }),
  length: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 90_000 })),
};
const moved: fc.Arbitrary<RangeOperation> = fc.record({
  kind: fc.constantFrom('write', 'writeFrom', 'clone', 'zero'),
  ...range,
});
const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 12, arbitrary: moved },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('grow' as const),
      sectors: fc.integer({ min: SECTORS, max: MOST }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom('flush' as const, 'reopen' as const) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('empty' as const) }) },
);

const shapes = fc.record({
  version: fc.constantFrom(2 as const, 3 as const),
  /** 16 KiB: with extended L2 entries, and so subclusters of a sector. */
  clusterSize: fc.constantFrom(512, 512, 1024, 4096, 16384),
  refcountBits: fc.constantFrom(1, 2, 4, 8, 16, 32, 64),
  /** Sectors of the backing file; 0: there is none. */
  backed: fc.constantFrom(0, 40, 300, MOST),
  /** Not a whole number of clusters. */
  sectors: fc.constantFrom(SECTORS, SECTORS + 1, SECTORS + 3),
});
type Shape = typeof shapes extends fc.Arbitrary<infer T> ? T : never;

function imageShape({ version, clusterSize, refcountBits }: Shape) {
  const extendedL2 = clusterSize === 16384;
  if (extendedL2) return { version: 3, clusterSize, refcountBits, extendedL2 } as const;
  return { version, clusterSize, refcountBits: version === 2 ? 16 : refcountBits };
}

/** What nobody needs any more may read as anything afterwards; now and then it clones no more. */
class ForgetfulStorage extends MemoryStorage {
  #clones = 0;

  async canClone(): Promise<boolean> {
    return true;
  }

  async cloneFrom(ranges: readonly CloneRange[]): Promise<number> {
    for (const [done, { source, from, to, length }] of ranges.entries()) {
      if (++this.#clones % 5 === 0) return done;
      await this.copyOne(source, from, to, length);
    }
    return ranges.length;
  }

  private async copyOne(source: Storage, from: number, to: number, length: number): Promise<void> {
    const bytes = new Uint8Array(length);
    await source.read(from, bytes);
    await this.write(to, bytes, 'data');
  }

  override async discard(offset: number, length: number): Promise<void> {
    await this.write(offset, new Uint8Array(length).fill(0xdd), 'data');
  }
}

interface World {
  image: Qcow2Image;
  model: Uint8Array;
  readonly below: Uint8Array;
  readonly storage: MemoryStorage;
}

function belowIn({ below }: World, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(below.subarray(0, size));
  return bytes;
}

async function open(storage: MemoryStorage, below: Uint8Array): Promise<Qcow2Image> {
  // The least cache that there is: eight tables.
  const image = await Qcow2Image.open(storage, { cacheBytes: 0 });
  if (below.length > 0) image.backing = new RawImage(new MemoryStorage(below));
  return image;
}

async function apply(world: World, op: Operation, seed: number): Promise<void> {
  const { image, model } = world;
  if (op.kind === 'flush') await image.flush();
  else if (op.kind === 'reopen') {
    await image.close();
    world.image = await open(world.storage, world.below);
  } else if (op.kind === 'empty') {
    await image.empty();
    world.model = belowIn(world, image.size);
  } else if (op.kind === 'grow') {
    if (op.sectors * SECTOR <= image.size) return;
    world.model = new Uint8Array(op.sectors * SECTOR);
    world.model.set(model);
    await image.grow(op.sectors * SECTOR);
  } else if ('at' in op) await change(world, op, seed);
}

/** Several ranges of whole clusters, of which those count that are done. */
async function clone({ image, model }: World, op: RangeOperation, seed: number): Promise<void> {
  const { clusterSize } = image;
  const first = Math.floor((op.at * image.size) / clusterSize);
  const bytes = pattern(op.length + 3 * clusterSize, seed);
  const storage = new MemoryStorage(bytes);
  const ranges: PlacedRange[] = [];
  let [cluster, from] = [first, 0];
  for (let n = 0; from + 2 * clusterSize <= bytes.length && n < 9; n++) {
    const length = (1 + (n % 2)) * clusterSize;
    const offset = cluster * clusterSize;
    if (offset + length > image.size) break;
    // Not as they lie on the disk, and some together.
    const place = bytes.length - from - length;
    ranges.push({ offset, length, host: { storage, offset: seed % 2 ? place : from } });
    cluster += length / clusterSize + (n % 3);
    from += length;
  }
  const done = await image.moveRanges(PlacedRanges.of(ranges));
  for (const [i, { offset, length, host }] of ranges.entries()) {
    const moved = bytes.subarray(host.offset, host.offset + length);
    // Those that are not done may be so in part: the caller writes them otherwise.
    if (i >= done) await image.write(offset, moved);
    model.set(moved, offset);
  }
}

async function change(world: World, op: RangeOperation, seed: number): Promise<void> {
  if (op.kind === 'clone') return clone(world, op, seed);
  const { image, model } = world;
  const at = Math.floor(op.at * image.size);
  const length = Math.min(op.length, image.size - at);
  const bytes = op.kind === 'zero' ? new Uint8Array(length) : pattern(length, seed);
  model.set(bytes, at);
  if (op.kind === 'zero') await image.zero(at, length);
  else if (op.kind === 'write') await image.write(at, bytes);
  else {
    const source = new MemoryStorage(bytes);
    await image.writeFrom(at, { storage: source, offset: 0 }, length);
  }
}

describe('random operations', () => {
  test('read as the array does, one after the other', { timeout: 60_000 }, () =>
    fc.assert(
      fc.asyncProperty(shapes, fc.array(operation, { maxLength: 14 }), async (shape, ops) => {
        const storage = new ForgetfulStorage();
        const { backed, sectors } = shape;
        const size = sectors * SECTOR;
        await (await createImage(storage, { size, ...imageShape(shape) })).close();
        const below = pattern(backed * SECTOR, 99);
        const image = await open(storage, below);
        const world: World = { image, below, storage, model: new Uint8Array() };
        world.model = belowIn(world, size);
        for (const [seed, op] of ops.entries()) {
          await apply(world, op, seed);
          expectBytes(await viewOf(world.image), world.model, `after ${op.kind}`);
        }
        await world.image.close();
        expectBytes(await viewOf(await open(storage, below)), world.model, 'reopened');
        await expectSound(storage);
      }),
      { numRuns: 100 },
    ),
  );

  test('on distinct ranges may run at the same time', { timeout: 60_000 }, () =>
    fc.assert(
      fc.asyncProperty(
        shapes,
        fc.array(fc.tuple(fc.integer({ min: 1, max: 9000 }), fc.nat(2)), {
          minLength: 2,
          maxLength: 12,
        }),
        async (shape, pieces) => {
          const { backed } = shape;
          const storage = new ForgetfulStorage();
          const below = pattern(backed * SECTOR, 99);
          const size = SECTORS * SECTOR;
          await (await createImage(storage, { size, ...imageShape(shape) })).close();
          const image = await open(storage, below);
          const world: World = { image, below, storage, model: new Uint8Array() };
          world.model = belowIn(world, size);
          let at = 0;
          const running = pieces.map(([length, n], seed) => {
            const kind = (['write', 'writeFrom', 'zero'] as const)[n] ?? 'write';
            // The bytes do not overlap, their clusters do.
            const share = Math.min(0.999, (at + 0.5) / size);
            at += length;
            return change(world, { kind, at: share, length }, seed);
          });
          await Promise.all(running);
          expectBytes(await viewOf(image), world.model);
          await image.close();
          await expectSound(storage);
        },
      ),
      { numRuns: 50 },
    ),
  );
});
