// Random writes and resizes of random images: after each resize the file is one that QEMU finds nothing
// wrong with, and reads as a byte model has it.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { resizeImage } from '../../src/qcow2/resize-image.ts';
import { createSnapshot } from '../../src/qcow2/snapshot-changes.ts';
import { RawImage } from '../../src/raw/raw.ts';
import { randomFrom } from '../support/crash.ts';
import { expectBytes } from '../support/memory-images.ts';
import { checkClean, mustIn } from '../support/qemu.ts';
import { pattern } from '../support/storage-contract.ts';
import { tempDir } from '../support/temp.ts';

const SECTOR = 512;
const SHAPES = [
  { clusterSize: 512, version: 3, refcountBits: 16 },
  { clusterSize: 512, version: 2, refcountBits: 16 },
  { clusterSize: 512, version: 3, refcountBits: 64 },
  { clusterSize: 4096, version: 3, refcountBits: 1 },
  { clusterSize: 65536, version: 3, refcountBits: 16 },
  { clusterSize: 16384, version: 3, refcountBits: 16, extendedL2: true },
] as const;
const MODES = ['off', 'metadata', 'falloc', 'full'] as const;
const MOST = 4000;

/** Writes, resizes, and looks at what is there, three times. */
async function tryOut(seed: number, dir: string): Promise<void> {
  const random = randomFrom(seed);
  const shape = SHAPES[seed % SHAPES.length] ?? SHAPES[0];
  const below = pattern(random(3) * 1000 * SECTOR, seed);
  writeFileSync(join(dir, 'base'), below);
  const storage = new MemoryStorage();
  let model = new Uint8Array((1 + random(MOST)) * SECTOR);
  model.set(below.subarray(0, model.length));
  const backed = below.length > 0 && { backingFile: 'base', backingFormat: 'raw' };
  await createImage(storage, { ...shape, size: model.length, ...backed });
  const image = await Qcow2Image.open(storage);
  if (below.length > 0) image.backing = new RawImage(new MemoryStorage(below));
  for (let round = 0; round < 3; round++) {
    for (let n = 0; n < 3; n++) {
      const at = random(model.length);
      const bytes = pattern(Math.min(1 + random(200_000), model.length - at), seed + n);
      await image.write(at, bytes);
      model.set(bytes, at);
    }
    const keeps = shape.version > 2 && shape.refcountBits > 1 && random(3) === 0;
    if (keeps) await createSnapshot(image, { name: `${round}`, seconds: 1, nanoseconds: 0 });
    const next = new Uint8Array((1 + random(MOST)) * SECTOR);
    next.set(model.subarray(0, next.length));
    model = next;
    await resizeImage(image, next.length, MODES[random(MODES.length)] ?? 'off');
    const file = join(dir, `${round}`);
    writeFileSync(file, storage.bytes());
    await checkClean(file);
    await mustIn(dir, 'qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', file, 'view');
    expectBytes(new Uint8Array(readFileSync(join(dir, 'view'))), model);
  }
  expect(image.size).toBe(model.length);
}

test.each(Array.from({ length: 12 }, (_, seed) => seed))('seed %i', (seed) =>
  tryOut(seed, tempDir()),
);
