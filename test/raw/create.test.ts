// New raw disks: their length, and space where it is asked for.

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FileStorage } from '../../src/io/file.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import { createRaw } from '../../src/raw/create.ts';
import { tempDir } from '../support/temp.ts';

const SIZE = 3 * 1024 * 1024 + 512;

test('without preallocation it has its length, and takes space for its first block alone', async () => {
  const filename = join(tempDir(), 'disk');
  const storage = await FileStorage.create(filename);
  await createRaw(storage, SIZE);
  expect(await storage.extentAt(0)).toEqual({ data: true, end: 4096 });
  expect(await storage.extentAt(4096)).toMatchObject({ data: false });
  await storage.close();
  expect(statSync(filename)).toMatchObject({ size: SIZE, blocks: 8 });
});

describe.each(['falloc', 'full'] as const)('preallocation=%s', (preallocation) => {
  test.each([['with', undefined] as const, ['without', null] as const])(
    'takes its space %s system calls',
    async (_what, syscalls) => {
      const filename = join(tempDir(), 'disk');
      const storage = await FileStorage.create(filename, { syscalls, warn: () => undefined });
      await createRaw(storage, SIZE, preallocation);
      const bytes = new Uint8Array(SIZE).fill(1);
      await storage.read(0, bytes);
      await storage.close();
      expect(bytes.every((byte) => byte === 0)).toBe(true);
      expect(statSync(filename).size).toBe(SIZE);
      expect(statSync(filename).blocks * 512).toBeGreaterThanOrEqual(SIZE);
    },
  );

  test('is refused for a device, which has its space', async () => {
    const storage = await FileStorage.open('/dev/null', { writable: true });
    const message = `Unsupported preallocation mode '${preallocation}'`;
    await expect(createRaw(storage, 0, preallocation)).rejects.toMatchObject({ message });
    await storage.close();
  });

  test('writes zeros where the storage has no other way', async () => {
    const storage = new MemoryStorage();
    await createRaw(storage, 1000, preallocation);
    expect(storage.bytes()).toEqual(new Uint8Array(1000));
  });
});
