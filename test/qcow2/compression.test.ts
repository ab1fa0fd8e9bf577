// One compressed cluster: what is given to the decoder, and what is wrong with what comes back.

import { describe, expect, test } from 'vitest';
import { ImageError } from '../../src/errors.ts';
import type { Codecs } from '../../src/io/host.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import { decompressParts } from '../../src/qcow2/compression.ts';
import { MIB } from '../../src/units.ts';
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

async function decompress(
  codecs: Codecs | undefined,
  place = { host: 100, compressedBytes: 400 },
  type: 'zlib' | 'zstd' = 'zlib',
): Promise<Uint8Array> {
  const storage = new MemoryStorage(FILE, { filename: 'disk' });
  const target = new Uint8Array(CLUSTER);
  const run = { ...place, offset: 0, length: CLUSTER };
  await decompressParts({ storage, codecs, type, clusterSize: CLUSTER }, [{ run, target }]);
  return target;
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

describe('several', () => {
  /** One cluster per 500 bytes of the file, or as `places` say. */
  function partsAt(places: readonly number[], targets = places.map(() => new Uint8Array(CLUSTER))) {
    return places.map((host, i) => ({
      run: { host, compressedBytes: 400, offset: i * CLUSTER, length: CLUSTER },
      target: targets[i] ?? new Uint8Array(CLUSTER),
    }));
  }

  class CountingStorage extends MemoryStorage {
    readonly reads: [number, number][] = [];

    override async read(offset: number, target: Uint8Array): Promise<void> {
      this.reads.push([offset, target.length]);
      await super.read(offset, target);
    }
  }

  /** What is decompressed is the compressed bytes, over and over. */
  const repeated = (bytes: Uint8Array) =>
    Uint8Array.from({ length: CLUSTER }, (_, i) => bytes[i % bytes.length] ?? 0);

  const codecs: Codecs = {
    inflateRaw: async (bytes) => repeated(bytes),
    decompressZstd: async (bytes) => repeated(bytes),
  };

  test('that lie together are read at once, others by themselves', async () => {
    const storage = new CountingStorage(FILE, { filename: 'disk' });
    const parts = partsAt([100, 500, 700, 600, 0]);
    await decompressParts({ storage, codecs, type: 'zlib', clusterSize: CLUSTER }, parts);
    for (const { run, target } of parts) {
      expect(target).toEqual(repeated(FILE.subarray(run.host, run.host + 400)));
    }
    expect(storage.reads).toEqual([
      [100, 1000],
      [0, 400],
    ]);
  });

  test('a read takes a MiB at most, or one cluster', async () => {
    const storage = new CountingStorage(new Uint8Array(4 * MIB), { filename: 'disk' });
    const place = (host: number, compressedBytes: number) => ({
      run: { host, compressedBytes, offset: 0, length: CLUSTER },
      target: new Uint8Array(CLUSTER),
    });
    const parts = [place(0, MIB / 2), place(MIB / 2, MIB / 2), place(MIB, 2 * MIB)];
    await decompressParts({ storage, codecs, type: 'zlib', clusterSize: CLUSTER }, parts);
    expect(storage.reads).toEqual([
      [0, MIB],
      [MIB, 2 * MIB],
    ]);
  });

  test('the first that is bad is told, when no other one is at work any more', async () => {
    const storage = new MemoryStorage(FILE, { filename: 'disk' });
    let atWork = 0;
    const slow: Codecs = {
      ...codecs,
      async inflateRaw(bytes) {
        atWork++;
        await new Promise((resolve) => setTimeout(resolve, 5));
        atWork--;
        if (bytes[0] === FILE[500] || bytes[0] === FILE[900]) throw new Error('bad');
        return repeated(bytes);
      },
    };
    const parts = partsAt([100, 500, 900, 1300]);
    const done = decompressParts(
      { storage, codecs: slow, type: 'zlib', clusterSize: CLUSTER },
      parts,
    );
    await expect(done).rejects.toMatchObject({
      message: "disk: compressed cluster at offset 0x1f4 can't be decompressed",
    });
    expect(atWork).toBe(0);
  });

  test('a part of a cluster is cut out of the whole', async () => {
    const storage = new MemoryStorage(FILE, { filename: 'disk' });
    const target = new Uint8Array(100);
    const run = { host: 100, compressedBytes: 400, offset: 3 * CLUSTER + 50, length: 100 };
    await decompressParts({ storage, codecs, type: 'zstd', clusterSize: CLUSTER }, [
      { run, target },
    ]);
    expect(target).toEqual(repeated(FILE.subarray(100, 500)).subarray(50, 150));
  });
});
