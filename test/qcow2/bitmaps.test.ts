// The directory of persistent bitmaps, sound and hostile.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ImageError } from '../../src/errors.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import { encodeBitmapDirectory, readBitmapDirectory } from '../../src/qcow2/bitmap-directory.ts';
import { viewOf } from '../../src/qcow2/fields.ts';
import { encodeHeader, type Header, parseHeader } from '../../src/qcow2/header.ts';
import { AUTOCLEAR, EXTENSION } from '../../src/qcow2/spec.ts';
import { SOUND } from '../support/headers.ts';

const DIRECTORY = 1024;

interface Entry {
  readonly name: string;
  readonly flags?: number;
  readonly granularityBits?: number;
  readonly extraBytes?: number;
}

function encodeEntry({ name, flags = 0, granularityBits = 16, extraBytes = 0 }: Entry): Uint8Array {
  const text = new TextEncoder().encode(name);
  const bytes = new Uint8Array(Math.ceil((24 + extraBytes + text.length) / 8) * 8);
  const view = viewOf(bytes);
  view.setBigUint64(0, 65536n);
  view.setUint32(8, 5);
  view.setUint32(12, flags);
  view.setUint8(16, 1);
  view.setUint8(17, granularityBits);
  view.setUint16(18, text.length);
  view.setUint32(20, extraBytes);
  bytes.set(text, 24 + extraBytes);
  return bytes;
}

interface Pointer {
  readonly count?: number;
  readonly size?: number;
  readonly offset?: number;
}

function imageWith(directory: Uint8Array, pointer: Pointer = {}) {
  const data = new Uint8Array(24);
  viewOf(data).setUint32(0, pointer.count ?? 1);
  viewOf(data).setBigUint64(8, BigInt(pointer.size ?? directory.length));
  viewOf(data).setBigUint64(16, BigInt(pointer.offset ?? DIRECTORY));
  const extensions = [{ type: EXTENSION.bitmaps, data }];
  const autoclearFeatures = AUTOCLEAR.bitmaps;
  const bytes = new Uint8Array(DIRECTORY + directory.length);
  bytes.set(encodeHeader({ ...SOUND, autoclearFeatures, extensions }));
  bytes.set(directory, DIRECTORY);
  return { storage: new MemoryStorage(bytes), header: parseHeader(bytes) };
}

test('bitmaps are described in their order', async () => {
  const entries = [
    encodeEntry({ name: 'daily', flags: 2 }),
    encodeEntry({ name: 'hourly, ünbroken', flags: 3, granularityBits: 9 }),
    encodeEntry({ name: '' }),
  ];
  const { storage, header } = imageWith(Buffer.concat(entries), { count: 3 });
  const found = await readBitmapDirectory(storage, header);
  const table = { tableOffset: 65536, tableEntries: 5 };
  expect(found.map(({ nameBytes: _bytes, position: _position, ...rest }) => rest)).toEqual([
    { name: 'daily', inUse: false, enabled: true, granularity: 65536, ...table },
    { name: 'hourly, ünbroken', inUse: true, enabled: true, granularity: 512, ...table },
    { name: '', inUse: false, enabled: false, granularity: 65536, ...table },
  ]);
});

test('what is encoded again is the same, bytes that are no UTF-8 included', async () => {
  const directory = encodeEntry({ name: 'bitmap' });
  directory[24] = 0xff;
  const { storage, header } = imageWith(directory);
  expect(encodeBitmapDirectory(await readBitmapDirectory(storage, header))).toEqual(directory);
});

test('without the autoclear bit the directory is not trusted', async () => {
  const { storage, header } = imageWith(encodeEntry({ name: 'old' }));
  const cleared: Header = { ...header, autoclearFeatures: 0n };
  expect(await readBitmapDirectory(storage, cleared)).toEqual([]);
});

test('without the extension there are none', async () => {
  const bytes = encodeHeader({ ...SOUND, autoclearFeatures: AUTOCLEAR.bitmaps });
  expect(await readBitmapDirectory(new MemoryStorage(bytes), parseHeader(bytes))).toEqual([]);
});

test.each<[string, Pointer, string]>([
  ['more bitmaps than its bytes hold', { count: 2 }, 'Less bitmaps found than specified'],
  ['fewer', { count: 0 }, 'found bitmaps extension with zero bitmaps'],
  ['a number of bitmaps that no file holds', { count: 0xffff_ffff }, '4294967295 bitmaps'],
  ['half an entry at its end', { size: 33 }, 'Broken bitmap directory'],
  ['nothing in it', { size: 0 }, 'Requested bitmap directory size is zero'],
  ['a length beyond the limit', { size: 2 ** 40 }, 'exceeds the maximum supported size'],
  ['an end past the file', { size: 2 ** 26 - 2 ** 20, count: 9 }, "Bitmap '' doesn't satisfy"],
  ['an offset past the file', { offset: 2 ** 52 }, "Bitmap '' doesn't satisfy the constraints"],
])('a directory with %s is refused', async (_what, pointer, message) => {
  const { storage, header } = imageWith(encodeEntry({ name: 'bitmap' }), pointer);
  await expect(readBitmapDirectory(storage, header)).rejects.toMatchObject({
    code: 'corrupt',
    message: expect.stringContaining(message),
  });
});

test('extra data is not understood', async () => {
  const { storage, header } = imageWith(encodeEntry({ name: 'bitmap', extraBytes: 8 }));
  await expect(readBitmapDirectory(storage, header)).rejects.toMatchObject({
    message: 'Bitmap extra data is not supported',
  });
});

test('an entry whose extra data reaches past the directory is refused', async () => {
  const entry = encodeEntry({ name: 'bitmap' });
  viewOf(entry).setUint32(20, 0xffff_ffff);
  const { storage, header } = imageWith(entry);
  await expect(readBitmapDirectory(storage, header)).rejects.toMatchObject({ code: 'corrupt' });
});

test('any directory gives bitmaps or an ImageError', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), fc.nat(9), async (directory, count) => {
      // Small lengths, or nearly all of them are refused.
      const small = directory.map((byte, i) => (i % 24 >= 18 ? byte % 2 : byte));
      const { storage, header } = imageWith(small, { count });
      const outcome = await readBitmapDirectory(storage, header).catch((error: unknown) => error);
      if (!Array.isArray(outcome)) expect(outcome).toBeInstanceOf(ImageError);
    }),
  );
});
