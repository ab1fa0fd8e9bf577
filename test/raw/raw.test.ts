// A raw file as a layer.

import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import type { StorageExtent } from '../../src/io/storage.ts';
import { RawImage } from '../../src/raw/raw.ts';
import { expectBytes, viewOf } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

/** Bytes with holes: each even stretch of 1024 bytes is one. */
class Sparse extends MemoryStorage {
  override async extentAt(offset?: number): Promise<StorageExtent> {
    const index = Math.floor((offset ?? 0) / 1024);
    return { data: index % 2 === 1, end: Math.min((index + 1) * 1024, this.size) };
  }
}

class Device extends MemoryStorage {
  override readonly resizable = false as unknown as true;
}

test('a disk has whole sectors: what the file lacks reads as zeros', async () => {
  const raw = new RawImage(new MemoryStorage(pattern(1000, 1)));
  expect(raw).toMatchObject({ size: 1024, format: 'raw', clusterSize: 512, backing: null });
  expectBytes(await viewOf(raw), Buffer.concat([pattern(1000, 1), new Uint8Array(24)]));
});

test('holes are zeros, the rest lies where it is', async () => {
  const storage = new Sparse(new Uint8Array(2500));
  const raw = new RawImage(storage);
  expect(await raw.extents(100, 2460)).toEqual([
    { kind: 'zero', offset: 100, length: 924 },
    { kind: 'data', offset: 1024, length: 1024, host: { storage, offset: 1024 } },
    { kind: 'zero', offset: 2048, length: 512 },
  ]);
  expect(await raw.extents(1500, 10)).toMatchObject([{ kind: 'data', offset: 1500, length: 10 }]);
});

test('very many stretches come in several answers', async () => {
  const raw = new RawImage(new Sparse(new Uint8Array(3000 * 1024)));
  let at = 0;
  let answers = 0;
  while (at < raw.size) {
    const extents = await raw.extents(at, raw.size - at);
    expect(extents.length).toBeLessThanOrEqual(1024);
    for (const { offset, length } of extents) {
      expect(offset).toBe(at);
      at += length;
    }
    answers++;
  }
  expect(answers).toBe(3);
});

test('what is written is read, and zeros are zeros', async () => {
  const raw = new RawImage(new MemoryStorage(pattern(4096, 1)));
  const model = pattern(4096, 1);
  await raw.write(700, pattern(900, 2));
  model.set(pattern(900, 2), 700);
  await raw.zero(1000, 300);
  model.fill(0, 1000, 1300);
  await raw.zero(2000, 0);
  const source = new MemoryStorage(pattern(3000, 3));
  await raw.writeFrom(1200, { storage: source, offset: 10 }, 2000);
  model.set(pattern(3000, 3).subarray(10, 2010), 1200);
  await raw.flush();
  expectBytes(await viewOf(raw), model);
});

test('a copy that the machine does in part is completed through a buffer', async () => {
  class Half extends MemoryStorage {
    override async copyFrom(...args: unknown[]): Promise<number> {
      const [source, from, to, length] = args as [MemoryStorage, number, number, number];
      await this.write(to, source.bytes().subarray(from, from + length / 2), 'data');
      return length / 2;
    }
  }
  const raw = new RawImage(new Half(new Uint8Array(4096)));
  const source = new MemoryStorage(pattern(4096, 1));
  await raw.writeFrom(0, { storage: source, offset: 0 }, 4096);
  expectBytes(await viewOf(raw), pattern(4096, 1));
});

test('it grows with zeros, and never shrinks', async () => {
  const raw = new RawImage(new MemoryStorage(pattern(1000, 1)));
  await raw.grow(512);
  expect(raw.size).toBe(1024);
  await raw.grow(5000);
  expect(raw.size).toBe(5120);
  expectBytes(await viewOf(raw), Buffer.concat([pattern(1000, 1), new Uint8Array(4120)]));
});

test('a device can not grow', async () => {
  const raw = new RawImage(new Device(new Uint8Array(1024), { filename: 'device' }));
  await raw.grow(1024);
  const message = "device has 1024 bytes and can't grow to 1536: it is a device";
  await expect(raw.grow(1536)).rejects.toMatchObject({ code: 'invalid', message });
});

test('ranges outside of the disk are refused', async () => {
  const raw = new RawImage(new MemoryStorage(new Uint8Array(1024)));
  const source = { storage: new MemoryStorage(), offset: 0 };
  const invalid = { code: 'invalid' };
  await expect(raw.read(1000, new Uint8Array(25))).rejects.toMatchObject(invalid);
  await expect(raw.read(-1, new Uint8Array(1))).rejects.toMatchObject(invalid);
  await expect(raw.write(1024, new Uint8Array(1))).rejects.toMatchObject(invalid);
  await expect(raw.zero(0.5, 1)).rejects.toMatchObject(invalid);
  await expect(raw.writeFrom(0, source, 1025)).rejects.toMatchObject(invalid);
  await expect(raw.extents(0, 1025)).rejects.toMatchObject(invalid);
});

test('what is open for reading is not flushed', async () => {
  const storage = new MemoryStorage(new Uint8Array(512), { writable: false });
  storage.flush = async () => {
    throw new Error('flushed');
  };
  const raw = new RawImage(storage);
  await raw.flush();
  await expect(raw.write(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'read-only' });
});
