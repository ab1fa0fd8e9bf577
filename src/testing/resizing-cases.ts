// Promises about the length of a storage: where it can change, and where it is fixed.

import type { Storage } from '../io/storage.ts';
import { check, contentOf, holds, pattern, refuses } from './checks.ts';
import type { Case } from './storage-contract.ts';

const KIB = 1024;

export const RESIZING: readonly Case[] = [
  whereResizable('grows by writes, zeros and resizing, with zeros in between', 1000, grows),
  whereResizable('what was cut off does not come back', 64 * KIB, async (storage) => {
    await storage.resize(1000);
    await storage.resize(64 * KIB);
    await holds(storage, 0, pattern(64 * KIB, 12).subarray(0, 1000));
    await holds(storage, 1000, new Uint8Array(63 * KIB));
  }),
  whereResizable('growing does not cut off a write under way further on', 0, growsBesideWrites),
  [
    'where its size is fixed: a write past the end finds no space, and changes nothing',
    async ({ opened }) => {
      const storage = await opened(pattern(8 * KIB, 15));
      if (storage.resizable) return;
      const { size } = storage;
      const before = await contentOf(storage, size - KIB, KIB);
      const late = size - 512;
      await refuses(() => storage.write(late, pattern(513, 1), 'data'), 'no-space', 'ENOSPC');
      await refuses(() => storage.zero(late, 513, 'data'), 'no-space', 'ENOSPC');
      await holds(storage, size - KIB, before);
      check(storage.size === size, 'its size has changed');
      await refuses(() => storage.resize(size), 'invalid');
    },
  ],
];

/** `act` gets a storage that holds `length` bytes of pattern 12. */
function whereResizable(
  name: string,
  length: number,
  act: (storage: Storage) => Promise<void>,
): Case {
  return [
    `where its size can change: ${name}`,
    async ({ opened }) => {
      const storage = await opened(pattern(length, 12));
      if (storage.resizable) await act(storage);
    },
  ];
}

async function grows(storage: Storage): Promise<void> {
  const has = (size: number) =>
    check(storage.size === size, `its size is ${storage.size}, not ${size}`);
  check(storage.growsZeroed, 'it is resizable, but does not grow by zeros');
  await storage.write(3000, pattern(10, 13), 'data');
  has(3010);
  await storage.zero(5000, 1000, 'data');
  has(6000);
  await storage.resize(7001);
  has(7001);
  const expected = new Uint8Array(7001);
  expected.set(pattern(1000, 12));
  expected.set(pattern(10, 13), 3000);
  await holds(storage, 0, expected);
}

async function growsBesideWrites(storage: Storage): Promise<void> {
  for (let round = 0; round < 50; round++) {
    const at = storage.size;
    const piece = pattern(64 * KIB, round);
    await Promise.all([
      storage.write(at + 64 * KIB, piece, 'data'),
      storage.zero(at, 4 * KIB, 'data'),
      storage.write(at + 8 * KIB, piece.subarray(0, 100), 'data'),
      storage.zero(at + 16 * KIB, 4 * KIB, 'data'),
    ]);
    await holds(storage, at + 64 * KIB, piece);
    await holds(storage, at + 8 * KIB, piece.subarray(0, 100));
  }
}
