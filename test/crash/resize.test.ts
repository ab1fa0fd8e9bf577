// A power cut while a disk gets another size: at every moment it has the old size or the new one, with
// what belongs there, and a check finds leaks at most; a larger disk made of what is left shows zeros
// where there is nothing.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { addBitmap } from '../../src/qcow2/bitmap-edit.ts';
import type { Bitmaps } from '../../src/qcow2/bitmaps.ts';
import { checkImage } from '../../src/qcow2/check.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { resizeImage } from '../../src/qcow2/resize-image.ts';
import { createSnapshot } from '../../src/qcow2/snapshot-changes.ts';
import { RawImage } from '../../src/raw/raw.ts';
import { CrashHost, randomFrom } from '../support/crash.ts';
import { expectBytes, viewOf } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

const SECTOR = 512;
const MOST = 400;

const cases = fc.record({
  version: fc.constantFrom(2 as const, 3 as const, 3 as const),
  clusterSize: fc.constantFrom(512, 512, 1024, 4096),
  refcountBits: fc.constantFrom(8, 16, 64),
  backed: fc.constantFrom(0, 40, MOST),
  sectors: fc.integer({ min: 100, max: MOST }),
  resized: fc.integer({ min: 1, max: MOST }),
  mode: fc.constantFrom('off' as const, 'metadata' as const, 'full' as const),
  snapshot: fc.boolean(),
  bitmap: fc.boolean(),
  writes: fc.array(fc.record({ at: fc.nat(MOST - 1), count: fc.integer({ min: 1, max: 100 }) }), {
    minLength: 1,
    maxLength: 5,
  }),
  seed: fc.nat(),
});

/** What the bitmap says; it may have lost count, if it says so. */
async function marksIn(image: Qcow2Image): Promise<string> {
  const bitmap = image.bitmaps.find('b');
  if (bitmap === undefined) return 'none';
  if (bitmap.inconsistent) return 'inconsistent';
  const marks: string[] = [];
  for await (const stretches of image.bitmaps.stretchesOf(bitmap)) {
    for (const [from, to] of stretches) marks.push(`${from}-${to}`);
  }
  return marks.join();
}

async function open(storage: MemoryStorage, backing: RawImage | null): Promise<Qcow2Image> {
  const image = await Qcow2Image.open(storage);
  image.backing = backing;
  return image;
}

test('the old disk or the new one', { timeout: 120_000 }, () =>
  fc.assert(
    fc.asyncProperty(
      cases,
      async ({ backed, sectors, resized, mode, snapshot, bitmap, ...rest }) => {
        const { version, clusterSize, writes, seed } = rest;
        const below = pattern(backed * SECTOR, 99);
        const backing = backed > 0 ? new RawImage(new MemoryStorage(below)) : null;
        const host = new CrashHost(new Map<string, Uint8Array>());
        const storage = await host.createStorage('image');
        await createImage(storage, {
          ...{ version, clusterSize, size: sectors * SECTOR },
          refcountBits: version === 2 ? 16 : rest.refcountBits,
          ...(backing !== null && { backingFile: 'base', backingFormat: 'raw' }),
        });
        const image = await Qcow2Image.open(storage);
        image.backing = backing;
        const before = new Uint8Array(sectors * SECTOR);
        before.set(below.subarray(0, before.length));
        for (const [n, { at, count }] of writes.entries()) {
          const start = Math.min(at, sectors - 1);
          const bytes = pattern(Math.min(count, sectors - start) * SECTOR, n + 1);
          await image.write(start * SECTOR, bytes);
          before.set(bytes, start * SECTOR);
          if (snapshot && n === 0 && version === 3) {
            await createSnapshot(image, { name: 's', seconds: 1, nanoseconds: 0 });
          }
        }
        if (bitmap && version === 3) {
          const add = async (all: Bitmaps) => addBitmap(all, image, 'b', 512);
          await image.changeBitmaps(add);
          const marked = pattern(SECTOR, 50);
          await image.write((sectors - 1) * SECTOR, marked);
          before.set(marked, (sectors - 1) * SECTOR);
        }
        await image.flush();
        await image.storeBitmaps();
        const marks = [await marksIn(image), 'inconsistent'];
        const started = host.length;
        const after = new Uint8Array(resized * SECTOR);
        after.set(before.subarray(0, after.length));
        await resizeImage(image, after.length, mode);
        const ended = host.length;
        marks.push(await marksIn(image));
        await image.close();

        const random = randomFrom(seed);
        for (const { at, files } of host.states(4, random)) {
          if (at < started) continue;
          const file = new MemoryStorage(files.get('image') ?? new Uint8Array());
          const left = await open(file, backing);
          const findings: string[] = [];
          const { corruptions, checkErrors } = await checkImage(left, (text) =>
            findings.push(text),
          );
          expect({ corruptions, checkErrors, findings }).toMatchObject({
            corruptions: 0,
            checkErrors: 0,
          });
          const expected = at < ended && left.size === before.length ? before : after;
          expectBytes(await viewOf(left), expected);
          expect(marks).toContain(await marksIn(left));
          if (left.bitmaps.list.some(({ inconsistent }) => inconsistent)) continue;
          if (random(8) > 0) continue;
          await resizeImage(left, MOST * SECTOR, 'off');
          const larger = new Uint8Array(MOST * SECTOR);
          larger.set(expected);
          expectBytes(await viewOf(left), larger);
        }
      },
    ),
    { numRuns: 25, seed: 20261128 },
  ),
);
