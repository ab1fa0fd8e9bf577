// Promises of a storage that can be written to.

import { check, holds, pattern, refuses } from './checks.ts';
import type { Case, Stage } from './storage-contract.ts';

const KIB = 1024;

export const WRITING: readonly Case[] = [
  [
    'writes nothing from an empty buffer',
    async ({ opened }) => {
      const storage = await opened(pattern(KIB, 1));
      const { size } = storage;
      await storage.write(10, new Uint8Array(), 'data');
      await storage.zero(10, 0, 'data');
      check(storage.size === size, 'its size has changed');
      await holds(storage, 0, pattern(KIB, 1));
    },
  ],
  [
    'keeps what was written, across a flush and an opening',
    async ({ place, keep }) => {
      const content = pattern(8 * KIB, 1);
      const where = await place(content);
      const first = await where.open({ writable: true });
      await first.write(3000, pattern(1500, 2), 'data');
      await first.flush();
      await first.close();
      const second = keep(await where.open({ writable: false }));
      await holds(second, 0, content.subarray(0, 3000));
      await holds(second, 3000, pattern(1500, 2));
      await holds(second, 4500, content.subarray(4500));
    },
  ],
  [
    'does not keep the buffer that it was given',
    async ({ opened }) => {
      const storage = await opened(new Uint8Array(KIB));
      const source = pattern(100, 3);
      await storage.write(0, source, 'data');
      source.fill(0);
      await holds(storage, 0, pattern(100, 3));
    },
  ],
  ['zeroes a few bytes and nothing else', zeroes(1000, 10)],
  ['zeroes parts of pages and nothing else', zeroes(5000, 10_000)],
  ['zeroes whole pages and nothing else', zeroes(8 * KIB, 16 * KIB)],
  ['zeroes more than a megabyte and nothing else', zeroes(4 * KIB + 3, 1100 * KIB)],
  [
    'after zeroing, extents cover it without gaps, and holes read as zeros',
    async ({ opened }) => {
      const storage = await opened(pattern(256 * KIB, 6));
      await storage.zero(64 * KIB, 64 * KIB, 'data');
      for (let at = 0; at < storage.size; ) {
        const { data, end } = await storage.extentAt(at);
        check(end > at && end <= storage.size, `the extent at ${at} ends at ${end}`);
        if (!data) await holds(storage, at, new Uint8Array(end - at));
        at = end;
      }
    },
  ],
  [
    'a discard leaves the bytes round it alone',
    async ({ opened }) => {
      const content = pattern(64 * KIB, 5);
      const storage = await opened(content);
      await storage.discard(8 * KIB, 16 * KIB);
      await storage.discard(storage.size + KIB, KIB);
      await holds(storage, 0, content.subarray(0, 8 * KIB));
      await holds(storage, 24 * KIB, content.subarray(24 * KIB));
    },
  ],
  [
    'writes to different ranges may run at once',
    async ({ opened }) => {
      const storage = await opened(new Uint8Array(256 * KIB));
      const pieces = Array.from({ length: 64 }, (_, i) => pattern(4 * KIB, i));
      await Promise.all(pieces.map((piece, i) => storage.write(i * 4 * KIB, piece, 'data')));
      for (const [i, piece] of pieces.entries()) await holds(storage, i * 4 * KIB, piece);
    },
  ],
  [
    'copies some of a range from its like, the right bytes, from the start',
    async ({ opened }) => {
      const content = pattern(64 * KIB, 7);
      const old = pattern(64 * KIB, 8);
      const source = await opened(content, false);
      const target = await opened(old);
      const done = await target.copyFrom(source, 4 * KIB, 12 * KIB, 32 * KIB);
      check(done >= 0 && done <= 32 * KIB, `it has copied ${done} bytes of ${32 * KIB}`);
      await holds(target, 0, old.subarray(0, 12 * KIB));
      await holds(target, 12 * KIB, content.subarray(4 * KIB, 4 * KIB + done));
      await holds(target, 12 * KIB + done, old.subarray(12 * KIB + done));
    },
  ],
  [
    'space may be set aside: what it holds stays, what it gains reads as zeros',
    async ({ opened }) => {
      const content = pattern(8 * KIB, 16);
      const storage = await opened(content);
      const { size } = storage;
      const length = storage.resizable ? 64 * KIB : 4 * KIB;
      const done = await storage.allocate?.(4 * KIB, length);
      await holds(storage, 0, content);
      const expected = done ? Math.max(size, 4 * KIB + length) : size;
      check(storage.size === expected, `it has ${storage.size} bytes, not ${expected}`);
      await holds(storage, size, new Uint8Array(4 * KIB));
    },
  ],
  ['refuses every change where it was opened for reading', refusesChanges],
  [
    'makeWritable lets it write, and reads go on',
    async ({ opened }) => {
      const content = pattern(8 * KIB, 10);
      const storage = await opened(content, false);
      await storage.lock(['consistent read'], ['consistent read', 'write unchanged']);
      await storage.makeWritable(['consistent read', 'write'], ['consistent read']);
      check(storage.writable, 'it is not writable afterwards');
      await storage.write(0, pattern(10, 11), 'data');
      await holds(storage, 0, pattern(10, 11));
      await holds(storage, 10, content.subarray(10));
    },
  ],
];

function zeroes(offset: number, length: number): Case[1] {
  return async ({ opened }) => {
    const content = pattern(1200 * KIB, 4);
    const storage = await opened(content);
    await storage.zero(offset, length, 'data');
    await holds(storage, 0, content.subarray(0, offset));
    await holds(storage, offset, new Uint8Array(length));
    await holds(storage, offset + length, content.subarray(offset + length));
  };
}

async function refusesChanges({ opened }: Stage): Promise<void> {
  const content = pattern(8 * KIB, 9);
  const storage = await opened(content, false);
  check(!storage.writable, 'it is writable although it was opened for reading');
  await refuses(() => storage.write(0, new Uint8Array(1), 'data'), 'read-only');
  await refuses(() => storage.zero(0, 1, 'data'), 'read-only');
  await refuses(() => storage.discard(0, 1), 'read-only');
  if (storage.allocate) await refuses(async () => storage.allocate?.(0, 1), 'read-only');
  if (storage.resizable) await refuses(() => storage.resize(1), 'read-only');
  const source = await opened(content, false);
  // A copy of nothing, because the machine can't, is no change.
  const copied = () => storage.copyFrom(source, 0, 0, 1);
  if ((await copied().catch(() => 1)) !== 0) await refuses(copied, 'read-only');
  await holds(storage, 0, content);
}
