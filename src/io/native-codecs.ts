// Decompression by the zlib and zstd inside Node.js, called as C functions: into memory that is there
// already, and without the JavaScript object, the buffers and the copies that node:zlib makes for
// each cluster. Only what succeeds counts: whoever gets false asks node:zlib, which tells what is
// wrong.

import { type Koffi, loadKoffi } from './koffi.ts';

/** Fills `target` from the start of `compressed`, on the thread pool; false where it can't. */
export type DirectDecoder = (compressed: Uint8Array, target: Uint8Array) => Promise<boolean>;

export interface NativeCodecs {
  /** Raw deflate. */
  readonly inflateRaw: DirectDecoder;
  /** One frame of zstd; undefined where this Node.js has none. */
  readonly decompressZstd: DirectDecoder | undefined;
}

type Library = ReturnType<Koffi['load']>;

/** Threads of libuv's pool: more states would only wait. */
const LANES = 4;

let loaded: Promise<NativeCodecs | null> | undefined;

/** Null where the functions are not to be had. */
export function loadNativeCodecs(): Promise<NativeCodecs | null> {
  loaded ??= loadKoffi().then((koffi) => {
    if (koffi === null) return null;
    try {
      const library = koffi.load(null);
      return { inflateRaw: bindInflate(koffi, library), decompressZstd: bindZstd(library) };
    } catch {
      return null; // This program keeps its zlib to itself.
    }
  });
  return loaded;
}

/** zlib.h on 64-bit machines: next_in at 0, avail_in 8, next_out 24, avail_out 32. */
const Z_STREAM_BYTES = 112;
const NEXT_IN = 0;
const AVAIL_IN = 8;
const NEXT_OUT = 24;
const AVAIL_OUT = 32;
const Z_FINISH = 4;
/** Raw deflate, the largest window. */
const WINDOW_BITS = -15;

function bindInflate(koffi: Koffi, library: Library): DirectDecoder {
  const version = library.func('const char *zlibVersion()');
  const init = library.func('int inflateInit2_(void *, int, const char *, int)');
  const reset = library.func('int inflateReset(void *)');
  const inflate = library.func('int inflate(void *, int)');
  const create = (): DataView => {
    const stream = new DataView(new ArrayBuffer(Z_STREAM_BYTES));
    const failed = init(stream, WINDOW_BITS, version(), Z_STREAM_BYTES) !== 0;
    if (failed) throw new Error('inflateInit2 failed');
    return stream;
  };
  const lanes = new Lanes(create);
  return (compressed, target) =>
    lanes.run(async (stream) => {
      if (reset(stream) !== 0) return false;
      stream.setBigUint64(NEXT_IN, koffi.address(compressed), true);
      stream.setUint32(AVAIL_IN, compressed.length, true);
      stream.setBigUint64(NEXT_OUT, koffi.address(target), true);
      stream.setUint32(AVAIL_OUT, target.length, true);
      await callAsync(inflate, stream, Z_FINISH);
      // The end of the output decides, not that of the stream: it may be cut, or followed by more.
      return stream.getUint32(AVAIL_OUT, true) === 0;
    });
}

function bindZstd(library: Library): DirectDecoder | undefined {
  try {
    const create = library.func('void *ZSTD_createDCtx()');
    const decompress = library.func(
      'size_t ZSTD_decompressDCtx(void *, void *, size_t, const void *, size_t)',
    );
    const lanes = new Lanes(() => create() as unknown);
    return (compressed, target) =>
      lanes.run(async (context) => {
        const { length } = target;
        const filled = callAsync(
          decompress,
          context,
          target,
          length,
          compressed,
          compressed.length,
        );
        return (await filled) === length;
      });
  } catch {
    return undefined;
  }
}

type NativeFunction = ReturnType<Library['func']>;

/** koffi holds the memory that it is handed until the call has ended. */
function callAsync(call: NativeFunction, ...args: unknown[]): Promise<number> {
  return new Promise((resolve, reject) => {
    call.async(...args, (error: unknown, result: unknown) =>
      error ? reject(error) : resolve(Number(result)),
    );
  });
}

/** States of a decoder, each for one call at a time; made when needed, kept for the process. */
class Lanes<T> {
  readonly #create: () => T;
  readonly #idle: T[] = [];
  readonly #waiting: (() => void)[] = [];
  #made = 0;

  constructor(create: () => T) {
    this.#create = create;
  }

  async run(work: (lane: T) => Promise<boolean>): Promise<boolean> {
    while (this.#idle.length === 0 && this.#made === LANES) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    let lane = this.#idle.pop();
    if (lane === undefined) {
      lane = this.#create();
      this.#made++;
    }
    try {
      return await work(lane);
    } finally {
      this.#idle.push(lane);
      this.#waiting.shift()?.();
    }
  }
}
