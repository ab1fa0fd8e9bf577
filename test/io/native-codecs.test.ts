// The C functions inside Node.js: what they take is what node:zlib takes; all else is left to it.

import * as zlib from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { type DirectDecoder, loadNativeCodecs } from '../../src/io/native-codecs.ts';
import { pattern } from '../support/storage-contract.ts';

const SIZE = 65536;
const text = new Uint8Array(Buffer.from('a cluster of words, '.repeat(4000)).subarray(0, SIZE));

async function inflater(): Promise<DirectDecoder> {
  const native = await loadNativeCodecs();
  if (native === null) throw new Error('the tests need koffi');
  return native.inflateRaw;
}

async function inflated(compressed: Uint8Array, size = SIZE): Promise<Uint8Array | false> {
  const target = new Uint8Array(size);
  return (await (await inflater())(compressed, target)) && target;
}

describe('raw deflate', () => {
  test.each([
    ['words', text],
    ['bytes without order', pattern(SIZE, 3)],
    ['zeros', new Uint8Array(SIZE)],
    ['a few bytes', pattern(40, 1)],
  ])('%s', async (_what, plain) => {
    expect(await inflated(zlib.deflateRawSync(plain), plain.length)).toEqual(plain);
  });

  test('more behind the stream, and a stream without its end, are no matter', async () => {
    const whole = zlib.deflateRawSync(text);
    const padded = new Uint8Array(whole.length + 700).fill(0xff);
    padded.set(whole);
    expect(await inflated(padded)).toEqual(text);
    const open = zlib.deflateRawSync(text, { finishFlush: zlib.constants.Z_SYNC_FLUSH });
    expect(await inflated(open)).toEqual(text);
  });

  test.each([
    ['nothing', new Uint8Array(0)],
    ['what is no stream', new Uint8Array(300).fill(0xff)],
    ['a cut stream', zlib.deflateRawSync(pattern(SIZE, 3)).subarray(0, 900)],
    ['a short stream', zlib.deflateRawSync(text.subarray(1))],
  ])('%s is not taken, and the next one is', async (_what, compressed) => {
    expect(await inflated(compressed)).toBe(false);
    expect(await inflated(zlib.deflateRawSync(text))).toEqual(text);
  });

  test('a stream that goes on past the end of the memory gives what fits, and no more', async () => {
    const decode = await inflater();
    const memory = new Uint8Array(1000).fill(0xaa);
    expect(await decode(zlib.deflateRawSync(text), memory.subarray(0, 500))).toBe(true);
    expect(memory.subarray(0, 500)).toEqual(text.subarray(0, 500));
    expect(memory.subarray(500)).toEqual(new Uint8Array(500).fill(0xaa));
  });

  test('many at once each get their own', async () => {
    const plain = Array.from({ length: 100 }, (_, seed) => pattern(5000 + seed, seed));
    const all = plain.map((each) => inflated(zlib.deflateRawSync(each), each.length));
    expect(await Promise.all(all)).toEqual(plain);
  });
});

test('frames of zstd, where Node.js has it', async () => {
  const native = await loadNativeCodecs();
  const { zstdCompressSync: compress } = zlib as unknown as {
    zstdCompressSync?: (bytes: Uint8Array) => Uint8Array;
  };
  const decode = native?.decompressZstd;
  expect(decode !== undefined).toBe(compress !== undefined);
  if (compress === undefined) return;
  const target = new Uint8Array(SIZE);
  expect(await decode?.(compress(text), target)).toBe(true);
  expect(target).toEqual(text);
  expect(await decode?.(compress(text), target.subarray(1))).toBe(false);
  expect(await decode?.(compress(text).subarray(0, 20), target)).toBe(false);
});
