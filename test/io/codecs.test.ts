// Decompression of what QEMU compresses, by node:zlib and by the decoders of npm; and of what nobody
// should have written.

import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as zlib from 'node:zlib';
import { build } from 'esbuild';
import fc from 'fast-check';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { ImageError } from '../../src/errors.ts';
import { nodeCodecs } from '../../src/io/codecs.ts';
import type { ZstdDecoder } from '../../src/io/zstd-fallback.ts';
import { loadJavaScriptDecoder, loadWasmDecoder } from '../../src/io/zstd-fallback.ts';
import { zstdFrameLength } from '../../src/io/zstd-frame.ts';
import { qemuImg, run } from '../support/qemu.ts';
import { pattern } from '../support/storage-contract.ts';
import { makeTemp } from '../support/temp.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const CLUSTER = 65536;
const CONTENTS = [
  Buffer.from('the same words again and again, '.repeat(CLUSTER / 32)),
  Buffer.concat([Buffer.from(pattern(CLUSTER / 2, 1)), Buffer.alloc(CLUSTER / 2, 7)]),
  Buffer.from(Array.from({ length: CLUSTER }, (_, i) => (i * i) >> 9)),
];

interface Compressed {
  readonly plain: Buffer;
  /** What the image holds from the start of the stream, in whole sectors. */
  readonly stream: Buffer;
}

/** Clusters as `qemu-img convert -c` writes them. */
async function compressedByQemu(type: 'zlib' | 'zstd'): Promise<Compressed[]> {
  const { dir, cleanup } = makeTemp();
  try {
    const [raw, image] = [join(dir, 'raw'), join(dir, 'image.qcow2')];
    writeFileSync(raw, Buffer.concat(CONTENTS));
    const option = `compression_type=${type}`;
    await qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', option, raw, image);
    const bytes = readFileSync(image);
    const l1Table = Number(bytes.readBigUInt64BE(40));
    const l2Table = Number(bytes.readBigUInt64BE(l1Table) & 0x00ff_ffff_ffff_fe00n);
    return CONTENTS.map((plain, i) => {
      const entry = bytes.readBigUInt64BE(l2Table + i * 8);
      // 64 KiB clusters: the offset has bits 0 to 53, the sectors after its own bits 54 to 61.
      const offset = Number(entry & ((1n << 54n) - 1n));
      const sectors = Number((entry >> 54n) & 0xffn);
      expect(entry >> 62n).toBe(1n);
      const end = offset - (offset % 512) + (sectors + 1) * 512;
      return { plain, stream: bytes.subarray(offset, end) };
    });
  } finally {
    cleanup();
  }
}

const corrupt = { code: 'corrupt' };

describe('zlib', () => {
  let clusters: Compressed[];
  beforeAll(async () => {
    clusters = await compressedByQemu('zlib');
  });

  test('inflates what QEMU compressed, with the rest of the last sector behind it', async () => {
    for (const { plain, stream } of clusters) {
      expect(Buffer.compare(await nodeCodecs.inflateRaw(stream, CLUSTER), plain)).toBe(0);
    }
  });

  test('rubbish behind the stream changes nothing', async () => {
    for (const { plain, stream } of clusters) {
      const longer = Buffer.concat([stream, randomBytes(4096)]);
      expect(Buffer.compare(await nodeCodecs.inflateRaw(longer, CLUSTER), plain)).toBe(0);
    }
  });

  test('a stream that is cut once it has given its bytes is good', async () => {
    // A stored block, whose end comes in a block of its own.
    const plain = randomBytes(1000);
    const whole = zlib.deflateRawSync(plain, {
      level: 0,
      finishFlush: zlib.constants.Z_SYNC_FLUSH,
    });
    const cut = whole.subarray(0, 5 + 1000);
    expect(Buffer.compare(await nodeCodecs.inflateRaw(cut, 1000), plain)).toBe(0);
  });

  test('a stream that would give more gives the first bytes', async () => {
    const bomb = zlib.deflateRawSync(Buffer.alloc(64 * 1024 * 1024, 1));
    const inflated = await nodeCodecs.inflateRaw(bomb, CLUSTER);
    expect(Buffer.compare(inflated, Buffer.alloc(CLUSTER, 1))).toBe(0);
  });

  test('a stream that ends early gives fewer bytes', async () => {
    const short = Buffer.concat([zlib.deflateRawSync(Buffer.alloc(100, 1)), Buffer.alloc(400)]);
    expect((await nodeCodecs.inflateRaw(short, CLUSTER)).length).toBe(100);
  });

  test('a stream that is cut, or none, is corrupt', async () => {
    const stream = zlib.deflateRawSync(pattern(1000, 1));
    for (const bad of [stream.subarray(0, 300), Buffer.alloc(512, 0xff), new Uint8Array()]) {
      await expect(nodeCodecs.inflateRaw(bad, 1000)).rejects.toMatchObject(corrupt);
    }
  });

  test('many at once', async () => {
    const all = Array.from({ length: 60 }, (_, i) => clusters[i % clusters.length]!);
    const inflated = await Promise.all(
      all.map(({ stream }) => nodeCodecs.inflateRaw(stream, CLUSTER)),
    );
    for (const [i, { plain }] of all.entries()) {
      expect(Buffer.compare(inflated[i]!, plain)).toBe(0);
    }
  });
});

/** A frame of blocks that repeat one byte `length` times; by default it says no content size. */
function rleFrame(lengths: readonly number[], descriptor = [0x00, 0x58]): Buffer {
  const blocks = lengths.map((length, i) => {
    const last = i === lengths.length - 1 ? 1 : 0;
    const header = (length << 3) | (1 << 1) | last;
    return Buffer.from([header & 0xff, (header >> 8) & 0xff, header >> 16, 0x61]);
  });
  return Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, ...descriptor]), ...blocks]);
}

const DECODERS = [
  ['as this Node.js does it', async () => nodeCodecs.decompressZstd],
  ['by WebAssembly', async () => framed(await loadWasmDecoder())],
  ['by JavaScript', async () => framed(await loadJavaScriptDecoder())],
] as const;

function framed(decode: ZstdDecoder): typeof nodeCodecs.decompressZstd {
  return async (compressed, size) => {
    const frame = compressed.subarray(0, zstdFrameLength(compressed, size));
    try {
      return decode(frame, size);
    } catch (cause) {
      throw new ImageError('corrupt', 'bad zstd frame', { cause });
    }
  };
}

describe.for(DECODERS)('zstd, %s', ([, load]) => {
  let clusters: Compressed[];
  let decompress: typeof nodeCodecs.decompressZstd;
  beforeAll(async () => {
    clusters = await compressedByQemu('zstd');
    decompress = await load();
  });

  test('decompresses what QEMU compressed, with the rest of the last sector behind it', async () => {
    for (const { plain, stream } of clusters) {
      expect(Buffer.compare(await decompress(stream, CLUSTER), plain)).toBe(0);
      const longer = Buffer.concat([stream, randomBytes(4096)]);
      expect(Buffer.compare(await decompress(longer, CLUSTER), plain)).toBe(0);
    }
  });

  test('a frame without a content size', async () => {
    const frame = rleFrame([1000, 500]);
    expect(Buffer.compare(await decompress(frame, 1500), Buffer.alloc(1500, 0x61))).toBe(0);
  });

  test('a frame that gives fewer bytes gives those only', async () => {
    expect((await decompress(rleFrame([1000]), CLUSTER)).length).toBe(1000);
  });

  test('a frame that gives more is corrupt, and takes no memory to find out', async () => {
    const bomb = rleFrame(Array.from({ length: 10_000 }, () => 128 * 1024));
    await expect(decompress(rleFrame([1001]), 1000)).rejects.toMatchObject(corrupt);
    const before = process.memoryUsage().arrayBuffers;
    await expect(decompress(bomb, CLUSTER)).rejects.toMatchObject(corrupt);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1024 * 1024);
  });

  test('a damaged frame is corrupt', async () => {
    const { stream } = clusters[1]!;
    const damaged = Buffer.from(stream);
    for (let i = 12; i < 200; i++) damaged[i]! ^= 0x5a;
    await expect(decompress(damaged, CLUSTER)).rejects.toMatchObject(corrupt);
  });

  test('any bytes are either decompressed within the size or corrupt', async () => {
    const { stream } = clusters[0]!;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(stream.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        async (changes) => {
          const bytes = Buffer.from(stream);
          for (const [at, value] of changes) bytes[at] = value;
          const outcome = await decompress(bytes, CLUSTER).catch((error: unknown) => error);
          if (outcome instanceof Uint8Array) expect(outcome.length).toBeLessThanOrEqual(CLUSTER);
          else expect(outcome).toMatchObject(corrupt);
        },
      ),
    );
  });
});

test('zstd works in a process that can get no memory for WebAssembly', async () => {
  const { dir, cleanup } = makeTemp();
  onTestFinished(cleanup);
  const outfile = join(dir, 'bundle.mjs');
  // The fallback by itself, so that every Node.js has to take it.
  const program = `
    import { loadWasmDecoder, loadZstdDecoder } from './zstd-fallback.ts';
    const wasm = await loadWasmDecoder().then(() => true, () => false);
    const decode = await loadZstdDecoder();
    const output = decode(Buffer.from(process.argv[2], 'base64'), 1500);
    console.log(JSON.stringify({ wasm, output: Buffer.from(output).toString() }));
  `;
  const stdin = { contents: program, resolveDir: join(ROOT, 'src', 'io'), loader: 'ts' } as const;
  await build({ stdin, bundle: true, platform: 'node', format: 'esm', outfile, logLevel: 'error' });
  // A limit of V8 instead of one of addresses, which each Node.js needs to a different amount.
  const args = ['--wasm-max-mem-pages=1', outfile, rleFrame([1000, 500]).toString('base64')];
  const { code, stdout, stderr } = await run(process.execPath, args);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(JSON.parse(stdout)).toEqual({ wasm: false, output: 'a'.repeat(1500) });
});

describe('the frame of zstd', () => {
  const length = (bytes: Uint8Array) => zstdFrameLength(bytes, CLUSTER);

  test('ends where its last block does, and after its checksum', () => {
    const frame = rleFrame([1, 2, 3]);
    expect(length(Buffer.concat([frame, Buffer.alloc(99)]))).toBe(frame.length);
    const checked = rleFrame([1, 2, 3], [0x04, 0x58]);
    expect(length(Buffer.concat([checked, Buffer.alloc(99)]))).toBe(checked.length + 4);
  });

  test('that declares more than fits is refused before it is decompressed', () => {
    // Content sizes of 1, 2, 4 and 8 bytes, in a single segment.
    expect(length(rleFrame([1], [0x20, 200]))).toBe(10);
    expect(() => zstdFrameLength(rleFrame([1], [0x20, 200]), 199)).toThrow('too large');
    expect(() => length(rleFrame([1], [0x60, 0x01, 0xff]))).toThrow('too large');
    expect(() => length(rleFrame([1], [0xa0, 0, 0, 0, 0x80]))).toThrow('too large');
    expect(() => length(rleFrame([1], [0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80]))).toThrow('too large');
  });

  test('that wants a window past 128 MiB is refused', () => {
    expect(length(rleFrame([1], [0x00, 17 << 3]))).toBe(10);
    expect(() => length(rleFrame([1], [0x00, (17 << 3) + 1]))).toThrow('window');
    expect(() => length(rleFrame([1], [0x00, 0xff]))).toThrow('window');
  });

  test('that is cut anywhere, or is none, is corrupt', () => {
    const frame = rleFrame([1, 2, 3], [0x04, 0x58]);
    const whole = Buffer.concat([frame, Buffer.alloc(4)]);
    for (let end = 0; end < whole.length; end++) {
      expect(() => length(whole.subarray(0, end))).toThrow(ImageError);
    }
    expect(() => length(Buffer.alloc(512))).toThrow('no magic number');
  });

  test('any bytes have a length inside them or are corrupt', () =>
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (rest) => {
        const bytes = Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), rest]);
        try {
          expect(length(bytes)).toBeLessThanOrEqual(bytes.length);
        } catch (error) {
          expect(error).toMatchObject(corrupt);
        }
      }),
    ));
});
