// Compression of qcow2 clusters: decompressed by C functions where they can be called, else by
// node:zlib, or by npm decoders where Node.js has no zstd. All are loaded when the first compressed
// cluster is met: most commands meet none.

import { ImageError } from '../errors.ts';
import type { Codecs } from './host.ts';
import { type DirectDecoder, loadNativeCodecs } from './native-codecs.ts';
import { loadZstdDecoder } from './zstd-fallback.ts';
import { zstdFrameLength } from './zstd-frame.ts';

export const nodeCodecs: Codecs = {
  inflateRaw,
  decompressZstd,
  deflateRaw,
  ...(hasZstd() && { compressZstd }),
  loadCrypto: async () => (await import('./crypto.ts')).nodeCrypto,
};

/** Node.js has it from 22.15 on. Asked without loading zlib. */
function hasZstd(): boolean {
  return 'zstd' in process.versions;
}

/** "Compressed clusters": the window is 2^12 bytes. */
async function deflateRaw(plain: Uint8Array): Promise<Uint8Array> {
  const zlib = await import('node:zlib');
  const options = { windowBits: 12, memLevel: 9, chunkSize: Math.max(64, plain.length) };
  return new Promise((resolve, reject) => {
    zlib.deflateRaw(plain, options, (error, result) => (error ? reject(error) : resolve(result)));
  });
}

async function compressZstd(plain: Uint8Array): Promise<Uint8Array> {
  const zlib: unknown = await import('node:zlib');
  const { zstdCompress } = zlib as { zstdCompress: ZstdNativeCompress };
  return new Promise((resolve, reject) => {
    zstdCompress(plain, (error, result) => (error ? reject(error) : resolve(result)));
  });
}

type ZstdNativeCompress = (
  buffer: Uint8Array,
  callback: (error: Error | null, result: Uint8Array) => void,
) => void;

function corrupt(what: string, cause?: unknown): ImageError {
  return new ImageError('corrupt', what, { cause, errno: 'EIO' });
}

/**
 * The stream may be followed by anything, or be cut once it has given `size` bytes: the bytes count
 * whole sectors. So the end of the output decides, not the end of the stream.
 */
async function inflateRaw(
  compressed: Uint8Array,
  size: number,
  into?: Uint8Array,
): Promise<Uint8Array> {
  const decoder = (await loadNativeCodecs())?.inflateRaw;
  return (await direct(decoder, compressed, size, into)) ?? inflateByZlib(compressed, size);
}

/** Undefined where it can't be done so, or went wrong: the other way tells what. */
async function direct(
  decoder: DirectDecoder | undefined,
  compressed: Uint8Array,
  size: number,
  into: Uint8Array = new Uint8Array(size),
): Promise<Uint8Array | undefined> {
  const target = into.subarray(0, size);
  return (await decoder?.(compressed, target)) ? target : undefined;
}

async function inflateByZlib(compressed: Uint8Array, size: number): Promise<Uint8Array> {
  const zlib = await import('node:zlib');
  const options = {
    // A stream without its end is no error here.
    finishFlush: zlib.constants.Z_SYNC_FLUSH,
    maxOutputLength: size,
    chunkSize: Math.max(64, size),
  };
  return new Promise((resolve) => {
    zlib.inflateRaw(compressed, options, (error, result) => {
      // In one call: faster than a stream, which tells apart what went wrong.
      const isWhole = error === null && result.length === size;
      resolve(isWhole ? result : inflateByStream(zlib, compressed, size));
    });
  });
}

/** The first `size` bytes; fewer where the stream ends before. Throws `corrupt` where it is cut. */
function inflateByStream(
  zlib: typeof import('node:zlib'),
  compressed: Uint8Array,
  size: number,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const output = new Uint8Array(size);
    let length = 0;
    const inflate = zlib.createInflateRaw({ chunkSize: Math.max(64, size) });
    const finish = (): void => {
      inflate.destroy();
      resolve(length === size ? output : output.subarray(0, length));
    };
    inflate.on('data', (chunk: Buffer) => {
      const part = chunk.subarray(0, size - length);
      output.set(part, length);
      length += part.length;
      if (length === size) finish();
    });
    inflate.on('end', finish);
    inflate.on('error', (error) => reject(corrupt('bad deflate stream', error)));
    inflate.end(compressed);
  });
}

type ZstdNative = (
  buffer: Uint8Array,
  options: { maxOutputLength: number; chunkSize: number },
  callback: (error: Error | null, result: Uint8Array) => void,
) => void;

async function decompressZstd(
  compressed: Uint8Array,
  size: number,
  into?: Uint8Array,
): Promise<Uint8Array> {
  // What follows the frame is padding to the end of the last sector.
  const frame = compressed.subarray(0, zstdFrameLength(compressed, size));
  const decoder = (await loadNativeCodecs())?.decompressZstd;
  return (await direct(decoder, frame, size, into)) ?? decompressByModules(frame, size);
}

async function decompressByModules(frame: Uint8Array, size: number): Promise<Uint8Array> {
  const zlib: unknown = await import('node:zlib');
  const native = (zlib as { zstdDecompress?: ZstdNative }).zstdDecompress;
  if (native !== undefined) {
    return new Promise((resolve, reject) => {
      native(frame, { maxOutputLength: size, chunkSize: Math.max(64, size) }, (error, result) =>
        error ? reject(corrupt('bad zstd frame', error)) : resolve(result),
      );
    });
  }
  const decode = await loadZstdDecoder();
  try {
    return decode(frame, size);
  } catch (error) {
    throw corrupt('bad zstd frame', error);
  }
}
