// Promises that hold for a storage that is only read, too.

import { check, holds, pattern } from './checks.ts';
import type { Case } from './storage-contract.ts';

const KIB = 1024;

export const READING: readonly Case[] = [
  [
    'reads what was there, and zeros past the end',
    async ({ opened }) => {
      const content = pattern(8 * KIB, 1);
      const storage = await opened(content, false);
      await holds(storage, 0, content);
      await holds(storage, 1000, content.subarray(1000, 1003));
      const last = storage.size === content.length ? content.subarray(-1) : new Uint8Array(1);
      await holds(storage, storage.size - 1, new Uint8Array([...last, 0, 0]));
      await holds(storage, storage.size + 5 * KIB, new Uint8Array(10));
    },
  ],
  [
    'knows its size, and has no bytes where it is empty',
    async ({ opened }) => {
      const storage = await opened(pattern(3 * KIB, 2), false);
      check(storage.size >= 3 * KIB, `its size is ${storage.size}, less than it was given`);
      check(!storage.writable, 'it is writable although it was opened for reading');
      const empty = await opened(new Uint8Array(), false);
      await holds(empty, 0, new Uint8Array(10));
    },
  ],
  [
    'reads nothing into an empty buffer',
    async ({ opened }) => {
      const storage = await opened(pattern(KIB, 1), false);
      await storage.read(10, new Uint8Array());
      await storage.read(storage.size, new Uint8Array());
    },
  ],
  [
    'reads of overlapping ranges may run at once',
    async ({ opened }) => {
      const content = pattern(64 * KIB, 3);
      const storage = await opened(content, false);
      const offsets = Array.from({ length: 32 }, (_, i) => i * KIB);
      await Promise.all(
        offsets.map((at) => holds(storage, at, content.subarray(at, at + 16 * KIB))),
      );
    },
  ],
  [
    'extents cover it without gaps, and holes read as zeros',
    async ({ opened }) => {
      const content = pattern(256 * KIB, 6);
      content.fill(0, 64 * KIB, 128 * KIB);
      const storage = await opened(content, false);
      for (let at = 0; at < storage.size; ) {
        const { data, end } = await storage.extentAt(at);
        check(end > at, `the extent at ${at} ends at ${end}: it covers nothing`);
        check(end <= storage.size, `the extent at ${at} ends at ${end}, past the end`);
        if (!data) await holds(storage, at, new Uint8Array(end - at));
        at = end;
      }
    },
  ],
  [
    'tells how many bytes it takes, or that it does not know',
    async ({ opened }) => {
      const bytes = await (await opened(pattern(KIB, 1), false)).allocatedBytes();
      if (bytes === undefined) return;
      check(Number.isSafeInteger(bytes) && bytes >= 0, `it takes ${bytes} bytes`);
    },
  ],
  [
    'may be closed twice',
    async ({ opened }) => {
      const storage = await opened(new Uint8Array(KIB), false);
      await storage.close();
      await storage.close();
    },
  ],
];
