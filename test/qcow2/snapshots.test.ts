// The table of internal snapshots, sound and hostile.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ImageError } from '../../src/errors.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import { viewOf, writeField } from '../../src/qcow2/fields.ts';
import { type Header, parseHeader } from '../../src/qcow2/header.ts';
import { readSnapshots, readSnapshotTable } from '../../src/qcow2/snapshots.ts';
import { SNAPSHOT } from '../../src/qcow2/spec.ts';
import { headerWith } from '../support/headers.ts';

const TABLE = 1024;

interface Entry {
  readonly id: string;
  readonly name: string;
  /** vm state size, disk size, icount. */
  readonly extra: readonly bigint[];
  readonly vmStateSize?: number;
}

function encodeEntry({ id, name, extra, vmStateSize = 7 }: Entry): Uint8Array {
  const texts = new TextEncoder().encode(id + name);
  const length = 40 + extra.length * 8 + texts.length;
  const bytes = new Uint8Array(Math.ceil(length / 8) * 8);
  writeField(bytes, SNAPSHOT.l1TableOffset, 65536);
  writeField(bytes, SNAPSHOT.l1Size, 3);
  writeField(bytes, SNAPSHOT.seconds, 1_700_000_000);
  writeField(bytes, SNAPSHOT.nanoseconds, 5);
  writeField(bytes, SNAPSHOT.vmClockNanoseconds, 2n ** 60n);
  writeField(bytes, SNAPSHOT.vmStateSize, vmStateSize);
  writeField(bytes, SNAPSHOT.extraDataSize, extra.length * 8);
  const view = viewOf(bytes);
  view.setUint16(12, new TextEncoder().encode(id).length);
  view.setUint16(14, new TextEncoder().encode(name).length);
  extra.forEach((value, i) => {
    view.setBigUint64(40 + i * 8, value);
  });
  bytes.set(texts, 40 + extra.length * 8);
  return bytes;
}

function imageWith(...entries: readonly Uint8Array[]): { storage: MemoryStorage; header: Header } {
  const table = Buffer.concat(entries);
  const bytes = new Uint8Array(TABLE + table.length);
  bytes.set(headerWith({ snapshotsOffset: TABLE, nbSnapshots: entries.length }));
  bytes.set(table, TABLE);
  return { storage: new MemoryStorage(bytes), header: parseHeader(bytes) };
}

test('no snapshots, no table', async () => {
  const header = parseHeader(headerWith({}));
  expect(await readSnapshotTable(new MemoryStorage(), header)).toEqual({
    snapshots: [],
    length: 0,
  });
});

test('an entry with all of the extra data that is known', async () => {
  const extra = [2n ** 40n, 2n ** 41n, 99n];
  const { storage, header } = imageWith(encodeEntry({ id: '1', name: 'über', extra }));
  expect(await readSnapshots(storage, header)).toEqual([
    {
      id: '1',
      name: 'über',
      l1TableOffset: 65536,
      l1Size: 3,
      seconds: 1_700_000_000,
      nanoseconds: 5,
      vmClockNanoseconds: 2n ** 60n,
      vmStateSize: 2 ** 40,
      diskSize: 2 ** 41,
      icount: 99n,
      hasDiskSize: true,
      stored: {
        extraData: expect.any(Uint8Array),
        id: new TextEncoder().encode('1'),
        name: new TextEncoder().encode('über'),
      },
    },
  ]);
});

test('an old entry without extra data: sizes of its own field and of the image', async () => {
  const { storage, header } = imageWith(encodeEntry({ id: '1', name: '', extra: [] }));
  const [snapshot] = await readSnapshots(storage, header);
  expect(snapshot).toMatchObject({ vmStateSize: 7, diskSize: header.size, icount: null, name: '' });
});

test('extra data that only begins with what is known', async () => {
  const { storage, header } = imageWith(encodeEntry({ id: '1', name: 'a', extra: [11n] }));
  const [snapshot] = await readSnapshots(storage, header);
  expect(snapshot).toMatchObject({ vmStateSize: 11, diskSize: header.size, icount: null });
});

test('entries follow each other at multiples of 8 bytes', async () => {
  const entries = ['', 'a', 'ab', 'abcdefg', 'abcdefgh'].map((name, i) =>
    encodeEntry({ id: String(i), name, extra: [1n, 2n, 3n, 4n].slice(0, i) }),
  );
  const { storage, header } = imageWith(...entries);
  const { snapshots, length } = await readSnapshotTable(storage, header);
  expect(snapshots.map(({ name }) => name)).toEqual(['', 'a', 'ab', 'abcdefg', 'abcdefgh']);
  expect(length).toBe(storage.size - TABLE);
});

test('more than 1024 bytes of extra data are refused, with what to do', async () => {
  const entry = encodeEntry({ id: '1', name: 'a', extra: [] });
  writeField(entry, SNAPSHOT.extraDataSize, 1025);
  const { storage, header } = imageWith(entry);
  await expect(readSnapshots(storage, header)).rejects.toMatchObject({
    code: 'corrupt',
    errno: 'EFBIG',
    message: 'Too much extra metadata in snapshot table entry 0',
    hint: expect.stringContaining('check -r all'),
  });
});

test('past the end of the file there are entries without a name', async () => {
  const { storage, header } = imageWith(encodeEntry({ id: '1', name: 'a', extra: [] }));
  const snapshots = await readSnapshots(storage, { ...header, nbSnapshots: 3 });
  expect(snapshots.map(({ name }) => name)).toEqual(['a', '', '']);
});

test.each(['vm state size', 'disk size'])('a %s above 2^53 - 1 is refused', async (what) => {
  const extra = what === 'disk size' ? [0n, 2n ** 53n] : [2n ** 53n];
  const { storage, header } = imageWith(encodeEntry({ id: '1', name: 'a', extra }));
  const message = expect.stringContaining(what);
  await expect(readSnapshots(storage, header)).rejects.toMatchObject({ code: 'corrupt', message });
});

test('a table longer than the limit is refused, however sound its entries are', async () => {
  // Each entry takes 128 KiB of zeros.
  const entry = new Uint8Array(40);
  viewOf(entry).setUint16(12, 0xffff);
  viewOf(entry).setUint16(14, 0xffff);
  const storage = new MemoryStorage();
  const step = 131_112;
  for (let i = 0; i < 600; i++) await storage.write(TABLE + i * step, entry, 'snapshot-table');
  await storage.resize(TABLE + 600 * step);
  const bytes = headerWith({ snapshotsOffset: TABLE, nbSnapshots: 600 });
  await expect(readSnapshots(storage, parseHeader(bytes))).rejects.toMatchObject({
    code: 'corrupt',
  });
});

test('any bytes give snapshots or an ImageError', async () => {
  const tables = fc.uint8Array({ minLength: 40, maxLength: 400 });
  await fc.assert(
    fc.asyncProperty(tables, fc.integer({ min: 1, max: 8 }), async (table, nbSnapshots) => {
      const bytes = new Uint8Array(TABLE + table.length);
      bytes.set(headerWith({ snapshotsOffset: TABLE, nbSnapshots }));
      // Small lengths, or nearly all of them are refused.
      for (let i = 0; i < table.length; i++) if (i % 40 >= 12) table[i]! %= 2;
      bytes.set(table, TABLE);
      const read = readSnapshots(new MemoryStorage(bytes), parseHeader(bytes));
      const outcome = await read.catch((error: unknown) => error);
      expect(outcome).not.toBeUndefined();
      if (!Array.isArray(outcome)) expect(outcome).toBeInstanceOf(ImageError);
    }),
  );
});
