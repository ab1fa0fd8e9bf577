// One compressed cluster: what is given to the decoder, and what is wrong with what comes back.

import { expect, test } from 'vitest';
import { ImageError } from '../../src/errors.ts';
import type { Codecs } from '../../src/io/host.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import { decompressCluster } from '../../src/qcow2/compression.ts';
import { pattern } from '../support/storage-contract.ts';

const CLUSTER = 4096;
const FILE = pattern(2000, 1);
const PLAIN = pattern(CLUSTER, 2);

interface Asked {
  readonly by: 'zlib' | 'zstd';
  readonly bytes: Uint8Array;
  readonly size: number;
}

/** Codecs that answer what they are told to and remember what they were asked. */
function fakeCodecs(answer: () => Promise<Uint8Array>): Codecs & { readonly asked: Asked[] } {
  const asked: Asked[] = [];
  const by = (type: Asked['by']) => async (bytes: Uint8Array, size: number) => {
    asked.push({ by: type, bytes: bytes.slice(), size });
    return answer();
  };
  return { asked, inflateRaw: by('zlib'), decompressZstd: by('zstd') };
}

function decompress(
  codecs: Codecs | undefined,
  run = { host: 100, compressedBytes: 400 },
  type: 'zlib' | 'zstd' = 'zlib',
): Promise<Uint8Array> {
  const storage = new MemoryStorage(FILE, { filename: 'disk' });
  return decompressCluster(codecs, storage, type, CLUSTER, run);
}

test.each(['zlib', 'zstd'] as const)('%s gets the bytes of the descriptor', async (type) => {
  const codecs = fakeCodecs(async () => PLAIN);
  expect(await decompress(codecs, { host: 100, compressedBytes: 400 }, type)).toEqual(PLAIN);
  expect(codecs.asked).toEqual([{ by: type, bytes: FILE.subarray(100, 500), size: CLUSTER }]);
});

test('the last sector may end past the file: what is there has to do', async () => {
  const codecs = fakeCodecs(async () => PLAIN);
  await decompress(codecs, { host: 1900, compressedBytes: 2 * 1024 * 1024 });
  expect(codecs.asked[0]?.bytes).toEqual(FILE.subarray(1900));
});

test('a cluster past the end of the file is corrupt, and no decoder is asked', async () => {
  const codecs = fakeCodecs(async () => PLAIN);
  await expect(decompress(codecs, { host: 2000, compressedBytes: 512 })).rejects.toMatchObject({
    code: 'corrupt',
    message: 'disk: compressed cluster at offset 0x7d0 is past the end',
  });
  expect(codecs.asked).toEqual([]);
});

test('a stream that ends early is corrupt', async () => {
  const codecs = fakeCodecs(async () => PLAIN.subarray(1));
  await expect(decompress(codecs)).rejects.toMatchObject({
    code: 'corrupt',
    errno: 'EIO',
    message: 'disk: compressed cluster at offset 0x64 holds only 4095 bytes',
  });
});

test.each([
  ['a plain error', new TypeError('bad stream')],
  ['what it calls corrupt', new ImageError('corrupt', 'bad stream')],
])('%s of the decoder is told as a corrupt cluster', async (_what, error) => {
  const codecs = fakeCodecs(() => Promise.reject(error));
  await expect(decompress(codecs)).rejects.toMatchObject({
    code: 'corrupt',
    message: "disk: compressed cluster at offset 0x64 can't be decompressed",
    cause: error,
  });
});

test('an error that is not about the bytes is passed on', async () => {
  const error = new ImageError('unsupported', 'no decoder here');
  const codecs = fakeCodecs(() => Promise.reject(error));
  await expect(decompress(codecs)).rejects.toBe(error);
});

test('without codecs compressed clusters are not supported', async () => {
  await expect(decompress(undefined)).rejects.toMatchObject({ code: 'unsupported' });
});
