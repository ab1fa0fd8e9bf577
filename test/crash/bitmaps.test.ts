// Persistent bitmaps, a power cut at any moment: none is lost or made up, and none calls clean what
// was written since it was cleared.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import type { MemoryHost } from '../../src/io/memory-host.ts';
import type { Storage } from '../../src/io/storage.ts';
import { Bits } from '../../src/qcow2/bitmap-bits.ts';
import { addBitmap, clearBitmap, mergeBitmap, removeBitmap } from '../../src/qcow2/bitmap-edit.ts';
import type { Bitmaps } from '../../src/qcow2/bitmaps.ts';
import { checkImage } from '../../src/qcow2/check.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { RawImage } from '../../src/raw/raw.ts';
import { bitmapsIn } from '../support/bitmaps.ts';
import { CrashHost, type Files, hostWith, randomFrom } from '../support/crash.ts';

const SECTOR = 512;
const SECTORS = 400;
const CLUSTER = 512;

/** Two that record, one that does not and has a few dirty bits. */
async function prepared(clusterSize: number): Promise<Files> {
  const host = new CrashHost(new Map());
  const backing = { backingFile: 'below', backingFormat: 'raw' };
  const storage = await host.createStorage('image');
  const image = await createImage(storage, { size: SECTORS * SECTOR, clusterSize, ...backing });
  await image.changeBitmaps(async (bitmaps) => {
    addBitmap(bitmaps, image, 'fine', 512);
    addBitmap(bitmaps, image, 'coarse', 4096);
    addBitmap(bitmaps, image, 'still', 1024);
    const still = bitmaps.find('still');
    if (still) still.enabled = false;
    const bits = new Bits(512);
    bits.add(10 * SECTOR, 90 * SECTOR);
    bitmaps.find('fine')?.added.push(bits);
  });
  await image.changeBitmaps(async (bitmaps) => {
    await mergeBitmap(image, 'still', image, 'fine');
    clearBitmap(bitmaps, 'fine');
  });
  await image.close();
  return filesOf(host);
}

async function openIn(host: MemoryHost): Promise<Qcow2Image> {
  return await openAgain(await host.openStorage('image', { writable: true }));
}

/** By the same handle: the recorded flush of one says nothing about what another wrote. */
async function openAgain(storage: Storage): Promise<Qcow2Image> {
  const image = await Qcow2Image.open(storage);
  image.backing = new RawImage(new MemoryStorage());
  return image;
}

const filesOf = (host: MemoryHost): Files =>
  new Map([['image', host.fileBytes('image') ?? new Uint8Array()]]);

type Step =
  | { readonly kind: 'write' | 'zero'; readonly at: number; readonly count: number }
  | { readonly kind: 'flush' }
  | { readonly kind: 'store' }
  | { readonly kind: 'reopen' }
  | { readonly kind: 'grow'; readonly by: number };
const range = { at: fc.nat(SECTORS - 1), count: fc.integer({ min: 1, max: 60 }) };
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('write' as const), ...range }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('zero' as const), ...range }) },
  ...(['flush', 'store', 'reopen'] as const).map((kind) => ({
    weight: 1,
    arbitrary: fc.constant({ kind }),
  })),
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('grow' as const), by: fc.nat(900) }) },
);

async function carryOut(host: CrashHost, steps: readonly Step[]): Promise<void> {
  let image = await openIn(host);
  for (const each of steps) {
    if (each.kind === 'grow') await image.grow(image.size + each.by * SECTOR);
    else if (each.kind === 'flush') await image.flush();
    else if (each.kind === 'store') await image.storeBitmaps();
    else if (each.kind === 'reopen') {
      await image.flush();
      await image.storeBitmaps();
      image = await openAgain(image.storage);
    } else {
      const offset = each.at * SECTOR;
      const length = Math.min(each.count * SECTOR, image.size - offset);
      if (each.kind === 'write') await image.write(offset, new Uint8Array(length).fill(0xab));
      else await image.zero(offset, length);
    }
  }
  await image.close();
}

/** Sectors that a write has reached. */
function touchedIn(view: Uint8Array): readonly number[] {
  const sectors: number[] = [];
  for (let at = 0; at < view.length; at += SECTOR) if (view[at] !== 0) sectors.push(at / SECTOR);
  return sectors;
}

async function judge(files: Files): Promise<void> {
  const image = await openIn(hostWith(files));
  const { corruptions } = await checkImage(image, () => undefined);
  expect(corruptions).toBe(0);
  expect(image.bitmaps.list.map(({ name }) => name)).toEqual(['fine', 'coarse', 'still']);
  const view = new Uint8Array(image.size);
  await image.read(0, view);
  const stored = bitmapsIn(files.get('image') ?? view);
  for (const { name, inconsistent } of image.bitmaps.list) {
    if (inconsistent) continue;
    const dirty = new Set(stored.find((each) => each.name === name)?.dirty);
    if (name === 'still') expect(dirty.size).toBe(80);
    else expect(touchedIn(view).filter((sector) => !dirty.has(sector))).toEqual([]);
  }
}

test.each([512, 4096])('recording, clusters of %i bytes', async (clusterSize) => {
  const start = await prepared(clusterSize);
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 1, maxLength: 6 }),
      fc.nat(),
      async (steps, seed) => {
        const host = new CrashHost(start);
        await carryOut(host, steps);
        const random = randomFrom(seed);
        for (const { files } of host.states(3, random)) if (random(6) === 0) await judge(files);
        await judge(filesOf(host));
        const image = await openIn(hostWith(filesOf(host)));
        expect(image.bitmaps.list.some(({ inconsistent }) => inconsistent)).toBe(false);
        const { leaks } = await checkImage(image, () => undefined);
        expect(leaks).toBe(0);
      },
    ),
    { numRuns: 15 },
  );
});

/** What the bitmaps are: their states and how much is dirty. */
function describe(files: Files): readonly string[] {
  return bitmapsIn(files.get('image') ?? new Uint8Array()).map(
    ({ name, flags, dirty }) => `${name} ${flags} ${dirty.length}`,
  );
}

const EDITS: Readonly<Record<string, (bitmaps: Bitmaps, image: Qcow2Image) => Promise<void>>> = {
  add: async (bitmaps, image) => addBitmap(bitmaps, image, 'new', 2048),
  remove: async (bitmaps) => removeBitmap(bitmaps, 'coarse'),
  clear: async (bitmaps) => clearBitmap(bitmaps, 'still'),
  disable: async (bitmaps) => {
    for (const bitmap of bitmaps.list) bitmap.enabled = false;
  },
  merge: async (_bitmaps, image) => mergeBitmap(image, 'coarse', image, 'still'),
  'remove all': async (bitmaps) => {
    for (const { name } of [...bitmaps.list]) removeBitmap(bitmaps, name);
  },
};

test.each(Object.entries(EDITS))('%s: all or nothing', async (_name, edit) => {
  for (const clusterSize of [CLUSTER, 65536]) {
    const start = await prepared(clusterSize);
    const host = new CrashHost(start);
    const image = await openIn(host);
    const before = describe(start);
    await image.changeBitmaps((bitmaps) => edit(bitmaps, image));
    await image.close();
    const after = describe(filesOf(host));
    expect(after).not.toEqual(before);
    for (const { files } of host.states(3, randomFrom(7))) {
      const found = await openIn(hostWith(files));
      expect(found.header.backingFile).toBe('below');
      const texts = describe(files);
      // Flags of several bitmaps are several sectors, or one.
      if (_name !== 'disable') expect([before, after]).toContainEqual(texts);
      const { corruptions } = await checkImage(found, () => undefined);
      expect(corruptions).toBe(0);
    }
    const found = await openIn(hostWith(filesOf(host)));
    expect((await checkImage(found, () => undefined)).leaks).toBe(0);
  }
});
