// A commit into a base with persistent bitmaps, a power cut at any moment: the view through the top
// stays, bitmaps are as they were, right or inconsistent, and a rerun brings them all down.

import { expect, test } from 'vitest';
import { commit } from '../../src/commit/commit.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import type { MemoryHost } from '../../src/io/memory-host.ts';
import { addBitmap } from '../../src/qcow2/bitmap-edit.ts';
import { createImage } from '../../src/qcow2/create.ts';
import type { Qcow2Image } from '../../src/qcow2/image.ts';
import { RawImage } from '../../src/raw/raw.ts';
import { bitmapsIn } from '../support/bitmaps.ts';
import { CrashHost, type Files, hostWith, randomFrom } from '../support/crash.ts';
import { findingsIn, viewThrough } from '../support/memory-images.ts';

const SECTOR = 512;
const SIZE = 300 * SECTOR;

async function create(
  host: MemoryHost,
  name: string,
  bitmaps: readonly string[],
  fill: (image: Qcow2Image) => Promise<void>,
): Promise<void> {
  const backing = name === 'base' ? {} : { backingFile: 'base', backingFormat: 'qcow2' };
  const storage = await host.createStorage(name);
  const image = await createImage(storage, { size: SIZE, clusterSize: 512, ...backing });
  if (name !== 'base') image.backing = new RawImage(new MemoryStorage());
  await image.changeBitmaps(async (list) => {
    for (const each of bitmaps) addBitmap(list, image, each, 512);
  });
  await fill(image);
  await image.changeBitmaps(async (list) => {
    const still = list.find('still');
    if (still) still.enabled = false;
  });
  await image.close();
}

async function chain(): Promise<Files> {
  const host = new CrashHost(new Map());
  await create(host, 'base', ['a', 'still'], (image) =>
    image.write(5 * SECTOR, new Uint8Array(20 * SECTOR).fill(1)),
  );
  await create(host, 'top', ['a', 'new'], async (image) => {
    await image.write(10 * SECTOR, new Uint8Array(40 * SECTOR).fill(2));
    await image.zero(200 * SECTOR, 9 * SECTOR);
  });
  return filesOf(host);
}

const filesOf = (host: MemoryHost): Files =>
  new Map(['base', 'top'].map((name) => [name, host.fileBytes(name) ?? new Uint8Array()]));

const bytesOf = (files: Files, name: string): Uint8Array => files.get(name) ?? new Uint8Array();

function differing(a: Uint8Array, b: Uint8Array): readonly number[] {
  return Array.from({ length: SIZE / SECTOR }, (_, i) => i).filter(
    (i) => a[i * SECTOR] !== b[i * SECTOR],
  );
}

test.each([{ drop: false }, { drop: true }])('with bitmaps, %o', async ({ drop }) => {
  const start = await chain();
  const view = await viewThrough(hostWith(start), 'top');
  const old = await viewThrough(hostWith(start), 'base');
  const ofTop = bitmapsIn(bytesOf(start, 'top'));
  const host = new CrashHost(start);
  const options = { bitmaps: true, drop, skipAdvice: true };
  await commit('top', { host, ...options });
  const random = randomFrom(11);
  for (const { files } of host.states(3, random)) {
    if (random(3) > 0) continue;
    const found = hostWith(files);
    expect(await viewThrough(found, 'top')).toEqual(view);
    expect(bitmapsIn(bytesOf(files, 'top'))).toEqual(ofTop);
    for (const name of ['base', 'top']) {
      const storage = await found.openStorage(name, { writable: false });
      expect((await findingsIn(storage)).corruptions).toBe(0);
    }
    const changed = differing(old, await viewThrough(found, 'base'));
    const bitmaps = bitmapsIn(bytesOf(files, 'base'));
    expect(bitmaps.map(({ name }) => name).slice(0, 2)).toEqual(['a', 'still']);
    for (const { name, flags, dirty } of bitmaps) {
      if (name === 'a' && (flags & 1) === 0) {
        expect(changed.filter((sector) => !dirty.includes(sector))).toEqual([]);
      }
      if (name === 'still') expect([flags, dirty.length]).toEqual([0, 20]);
      if (name === 'new') expect([flags, dirty]).toEqual([2, ofTop[1]?.dirty]);
    }
    if (random(4) > 0) continue;
    await commit('top', { host: found, ...options });
    const after = bitmapsIn(found.fileBytes('base') ?? new Uint8Array());
    expect(after.map(({ name }) => name)).toEqual(['a', 'still', 'new']);
    expect(await viewThrough(found, 'base')).toEqual(view);
  }
});
