// What every Storage promises, as one suite that each implementation has to pass.

import { describe, expect, onTestFinished, test } from 'vitest';
import { ImageError } from '../../src/errors.ts';
import type { Storage } from '../../src/io/storage.ts';

const KIB = 1024;

export interface Place {
  /** Opens what `create` made, again or for the first time. */
  open(options: { readonly writable: boolean }): Promise<Storage>;
}

/** `place`: a new one for each test, with `content` (padded with zeros where its size is fixed). */
export function storageContract(
  name: string,
  place: (content: Uint8Array) => Promise<Place>,
): void {
  const opened = async (content: Uint8Array, writable = true): Promise<Storage> => {
    const storage = await (await place(content)).open({ writable });
    onTestFinished(() => storage.close());
    return storage;
  };
  const contentOf = async (storage: Storage, offset: number, length: number) => {
    // Not zeros, so that what a read leaves alone shows.
    const target = new Uint8Array(length).fill(0xee);
    await storage.read(offset, target);
    return target;
  };
  const holds = async (storage: Storage, offset: number, expected: Uint8Array) => {
    const content = await contentOf(storage, offset, expected.length);
    expect(Buffer.compare(content, expected)).toBe(0);
  };

  describe(name, () => {
    test('reads what was there, and zeros past the end', async () => {
      const content = pattern(8 * KIB, 1);
      const storage = await opened(content);
      await holds(storage, 0, content);
      await holds(storage, 1000, content.subarray(1000, 1003));
      await holds(storage, storage.size - 1, new Uint8Array([...tail(storage, content), 0, 0]));
      await holds(storage, storage.size + 5 * KIB, new Uint8Array(10));
    });

    test('reads nothing into an empty buffer and writes nothing from one', async () => {
      const storage = await opened(pattern(KIB, 1));
      const { size } = storage;
      await storage.read(10, new Uint8Array());
      await storage.write(10, new Uint8Array(), 'data');
      await storage.zero(10, 0, 'data');
      expect(storage.size).toBe(size);
      await holds(storage, 0, pattern(KIB, 1));
    });

    test('keeps what was written, across a flush and an opening', async () => {
      const where = await place(pattern(8 * KIB, 1));
      const first = await where.open({ writable: true });
      await first.write(3000, pattern(1500, 2), 'data');
      await first.flush();
      await first.close();
      const second = await where.open({ writable: false });
      onTestFinished(() => second.close());
      await holds(second, 0, pattern(8 * KIB, 1).subarray(0, 3000));
      await holds(second, 3000, pattern(1500, 2));
      await holds(second, 4500, pattern(8 * KIB, 1).subarray(4500));
    });

    test('does not keep the buffer that it was given', async () => {
      const storage = await opened(new Uint8Array(KIB));
      const source = pattern(100, 3);
      await storage.write(0, source, 'data');
      source.fill(0);
      await holds(storage, 0, pattern(100, 3));
    });

    test.for([
      ['a few bytes', 1000, 10],
      ['parts of pages', 5000, 10_000],
      ['whole pages', 8 * KIB, 16 * KIB],
      ['more than one buffer of zeros', 4 * KIB + 3, 1100 * KIB],
    ] as const)('zeroes %s and nothing else', async ([, offset, length]) => {
      const content = pattern(1200 * KIB, 4);
      const storage = await opened(content);
      await storage.zero(offset, length, 'data');
      await holds(storage, 0, content.subarray(0, offset));
      await holds(storage, offset, new Uint8Array(length));
      await holds(storage, offset + length, content.subarray(offset + length));
    });

    test('a discard leaves the bytes round it alone', async () => {
      const content = pattern(64 * KIB, 5);
      const storage = await opened(content);
      await storage.discard(8 * KIB, 16 * KIB);
      await storage.discard(storage.size + KIB, KIB);
      await holds(storage, 0, content.subarray(0, 8 * KIB));
      await holds(storage, 24 * KIB, content.subarray(24 * KIB));
    });

    test('writes to different ranges may run at once', async () => {
      const storage = await opened(new Uint8Array(256 * KIB));
      const pieces = Array.from({ length: 64 }, (_, i) => pattern(4 * KIB, i));
      await Promise.all(pieces.map((piece, i) => storage.write(i * 4 * KIB, piece, 'data')));
      for (const [i, piece] of pieces.entries()) await holds(storage, i * 4 * KIB, piece);
    });

    test('extents cover it without gaps, and holes read as zeros', async () => {
      const storage = await opened(pattern(256 * KIB, 6));
      await storage.zero(64 * KIB, 64 * KIB, 'data');
      for (let at = 0; at < storage.size; ) {
        const { data, end } = await storage.extentAt(at);
        expect(end).toBeGreaterThan(at);
        expect(end).toBeLessThanOrEqual(storage.size);
        if (!data) await holds(storage, at, new Uint8Array(end - at));
        at = end;
      }
    });

    test('copies some of a range from its like, the right bytes, from the start', async () => {
      const content = pattern(64 * KIB, 7);
      const source = await opened(content, false);
      const target = await opened(pattern(64 * KIB, 8));
      const done = await target.copyFrom(source, 4 * KIB, 12 * KIB, 32 * KIB);
      expect(done).toBeGreaterThanOrEqual(0);
      expect(done).toBeLessThanOrEqual(32 * KIB);
      await holds(target, 0, pattern(64 * KIB, 8).subarray(0, 12 * KIB));
      await holds(target, 12 * KIB, content.subarray(4 * KIB, 4 * KIB + done));
      await holds(target, 12 * KIB + done, pattern(64 * KIB, 8).subarray(12 * KIB + done));
    });

    test('space may be set aside: what it holds stays, what it gains reads as zeros', async () => {
      const content = pattern(8 * KIB, 16);
      const storage = await opened(content);
      const { size } = storage;
      const length = storage.resizable ? 64 * KIB : 4 * KIB;
      const done = await storage.allocate?.(4 * KIB, length);
      await holds(storage, 0, content);
      if (!done) expect(storage.size).toBe(size);
      else expect(storage.size).toBe(Math.max(size, 4 * KIB + length));
      await holds(storage, size, new Uint8Array(4 * KIB));
    });

    test('refuses every change where it was opened for reading', async () => {
      const content = pattern(8 * KIB, 9);
      const storage = await opened(content, false);
      expect(storage.writable).toBe(false);
      const source = await opened(content, false);
      const changes = [
        () => storage.write(0, new Uint8Array(1), 'data'),
        () => storage.zero(0, 1, 'data'),
        () => storage.discard(0, 1),
        () => storage.copyFrom(source, 0, 0, 1),
        ...(storage.allocate ? [() => storage.allocate?.(0, 1) as Promise<never>] : []),
      ];
      if (storage.resizable) changes.push(() => storage.resize(1) as Promise<never>);
      for (const change of changes) {
        // A copy that no machine can do is no change.
        const error = await change().then(
          (done) => (done === 0 ? undefined : expect.fail('not refused')),
          (reason: unknown) => reason,
        );
        if (error === undefined) continue;
        expect(error).toBeInstanceOf(ImageError);
        expect((error as ImageError).code).toBe('read-only');
      }
      await holds(storage, 0, content);
    });

    test('makeWritable lets it write, and reads go on', async () => {
      const content = pattern(8 * KIB, 10);
      const storage = await opened(content, false);
      await storage.lock(['consistent read'], ['consistent read', 'write unchanged']);
      await storage.makeWritable(['consistent read', 'write'], ['consistent read']);
      expect(storage.writable).toBe(true);
      await storage.write(0, pattern(10, 11), 'data');
      await holds(storage, 0, pattern(10, 11));
      await holds(storage, 10, content.subarray(10));
    });

    test('may be closed twice', async () => {
      const storage = await opened(new Uint8Array(KIB));
      await storage.close();
      await storage.close();
    });

    describe('where its size', () => {
      test('can change: it grows by writes, zeros and resizing, with zeros in between', async () => {
        const storage = await opened(pattern(1000, 12));
        if (!storage.resizable) return;
        expect(storage.growsZeroed).toBe(true);
        await storage.write(3000, pattern(10, 13), 'data');
        expect(storage.size).toBe(3010);
        await storage.zero(5000, 1000, 'data');
        expect(storage.size).toBe(6000);
        await storage.resize(7001);
        expect(storage.size).toBe(7001);
        const expected = new Uint8Array(7001);
        expected.set(pattern(1000, 12));
        expected.set(pattern(10, 13), 3000);
        await holds(storage, 0, expected);
      });

      test('can change: what was cut off does not come back', async () => {
        const storage = await opened(pattern(64 * KIB, 14));
        if (!storage.resizable) return;
        await storage.resize(1000);
        await storage.resize(64 * KIB);
        await holds(storage, 0, pattern(64 * KIB, 14).subarray(0, 1000));
        await holds(storage, 1000, new Uint8Array(63 * KIB));
      });

      test('can change: growing does not cut off a write that is under way further on', async () => {
        const storage = await opened(new Uint8Array());
        if (!storage.resizable) return;
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
      });

      test('is fixed: a write past the end finds no space, and changes nothing', async () => {
        const storage = await opened(pattern(8 * KIB, 15));
        if (storage.resizable) return;
        const { size } = storage;
        const before = await contentOf(storage, size - KIB, KIB);
        const full = { code: 'no-space', errno: 'ENOSPC' };
        const late = size - 512;
        await expect(storage.write(late, pattern(513, 1), 'data')).rejects.toMatchObject(full);
        await expect(storage.zero(late, 513, 'data')).rejects.toMatchObject(full);
        await holds(storage, size - KIB, before);
        expect(storage.size).toBe(size);
        await expect(storage.resize(size)).rejects.toMatchObject({ code: 'invalid' });
      });
    });
  });
}

/** Bytes that differ from their neighbours, and between seeds; never zero. */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = (seed + 1) * 0x9e37_79b1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[i] = (state >>> 24) | 1;
  }
  return bytes;
}

function tail(storage: Storage, content: Uint8Array): Uint8Array {
  return storage.size === content.length ? content.subarray(-1) : new Uint8Array(1);
}
