// Changes that stay in memory over a storage that keeps what it has.

import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { OverlayStorage } from '../../src/io/overlay.ts';
import { pattern } from '../support/storage-contract.ts';

test('writes at the same time to neighbouring bytes are all kept', async () => {
  const below = new MemoryStorage(pattern(8192, 1));
  const overlay = new OverlayStorage(below);
  const written = pattern(3000, 2);
  const writes = Array.from({ length: 30 }, (_, i) =>
    overlay.write(3000 + i * 100, written.subarray(i * 100, (i + 1) * 100)),
  );
  await Promise.all(writes);
  const expected = pattern(8192, 1);
  expected.set(written, 3000);
  const seen = new Uint8Array(8192);
  await overlay.read(0, seen);
  expect(Buffer.compare(seen, expected)).toBe(0);
  expect(Buffer.compare(below.bytes(), pattern(8192, 1))).toBe(0);
});

test('what is cut off does not come back when it grows again', async () => {
  const overlay = new OverlayStorage(new MemoryStorage(pattern(8192, 1)));
  await overlay.write(5000, pattern(100, 3));
  await overlay.resize(1000);
  await overlay.resize(8192);
  const seen = new Uint8Array(8192);
  await overlay.read(0, seen);
  const expected = pattern(8192, 1).fill(0, 1000);
  expect(Buffer.compare(seen, expected)).toBe(0);
});
