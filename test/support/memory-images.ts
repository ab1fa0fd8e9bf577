// Images in memory: made, filled, read and checked without a machine.

import { expect } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import type { MemoryHost } from '../../src/io/memory-host.ts';
import type { Storage } from '../../src/io/storage.ts';
import type { Layer } from '../../src/layer.ts';
import { checkImage } from '../../src/qcow2/check.ts';
import { type CreateOptions, createImage } from '../../src/qcow2/create.ts';
import { unguarded } from '../../src/qcow2/guarded-storage.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { RawImage } from '../../src/raw/raw.ts';

/** A new image in memory of its own; what a backing file would hold are zeros. */
export function memoryImage(options: CreateOptions): Promise<Qcow2Image> {
  return imageIn(new MemoryStorage(), options);
}

/** A new image over a disk of no bytes, should it name a backing file. */
export async function imageIn(storage: Storage, options: CreateOptions): Promise<Qcow2Image> {
  const image = await createImage(storage, options);
  if (options.backingFile !== undefined) image.backing = new RawImage(new MemoryStorage());
  return image;
}

/** The memory that an image lies in. */
export function memoryOf(image: Qcow2Image): MemoryStorage {
  const storage = unguarded(image.storage);
  if (!(storage instanceof MemoryStorage)) throw new Error(`${image.filename}: not in memory`);
  return storage;
}

/** The image as its file has it now. */
export async function reopened(image: Qcow2Image): Promise<Qcow2Image> {
  await image.flush();
  return Qcow2Image.open(image.storage);
}

/** The guest's view through a layer. */
export async function viewOf(layer: Layer): Promise<Uint8Array> {
  const bytes = new Uint8Array(layer.size);
  await layer.read(0, bytes);
  return bytes;
}

/** The guest's view through a chain in a host's files. */
export async function viewThrough(host: MemoryHost, filename: string): Promise<Uint8Array> {
  await using chain = await openChain(filename, { host });
  return viewOf(chain.top);
}

export interface Findings {
  readonly corruptions: number;
  readonly leaks: number;
  readonly messages: readonly string[];
}

/** What a check of the file finds. */
export async function findingsIn(storage: Storage): Promise<Findings> {
  const messages: string[] = [];
  const image = await Qcow2Image.open(storage);
  const { corruptions, leaks } = await checkImage(image, (message) => messages.push(message));
  return { corruptions, leaks, messages };
}

export async function expectSound(storage: Storage): Promise<void> {
  expect(await findingsIn(storage)).toEqual({ corruptions: 0, leaks: 0, messages: [] });
}

export async function expectSoundFile(host: MemoryHost, filename: string): Promise<void> {
  await expectSound(await host.openStorage(filename, { writable: false }));
}

/** Much faster than `toEqual` on large arrays; says where they differ. */
export function expectBytes(actual: Uint8Array, expected: Uint8Array, what = 'bytes'): void {
  const same = Buffer.compare(actual, expected) === 0;
  const at = same ? -1 : actual.findIndex((byte, i) => byte !== expected[i]);
  expect({ what, length: actual.length, differsAt: at }).toEqual({
    what,
    length: expected.length,
    differsAt: -1,
  });
}
