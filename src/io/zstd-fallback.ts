// Decoders of zstd for Node.js before 22.15: WebAssembly where it can get memory, else JavaScript,
// slow, but it works anywhere. Loaded when the first such cluster is met.

/** Decodes one whole frame; throws where it is bad or gives more than `size` bytes. */
export type ZstdDecoder = (frame: Uint8Array, size: number) => Uint8Array;

let decoder: Promise<ZstdDecoder> | undefined;

export function loadZstdDecoder(): Promise<ZstdDecoder> {
  decoder ??= loadWasmDecoder().catch(loadJavaScriptDecoder);
  return decoder;
}

export async function loadWasmDecoder(): Promise<ZstdDecoder> {
  const { ZSTDDecoder } = await import('zstddec');
  const wasm = new ZSTDDecoder();
  await withoutFetch(() => wasm.init());
  return (frame, size) => {
    const result = wasm.decode(frame, size);
    // It knows no errors: what it can't decode, or can't fit into `size`, comes back empty.
    if (result.length === 0 || result.length > size) throw new Error('the decoder refused it');
    return result;
  };
}

/**
 * Where there is `fetch`, zstddec fetches a data: URL, and with that loads an HTTP client whose own
 * WebAssembly can get no memory either: it rejects a promise that nobody holds, and Node.js ends.
 * The choice is made within the call, so nobody else misses it.
 */
function withoutFetch<T>(call: () => T): T {
  const fetch = Object.getOwnPropertyDescriptor(globalThis, 'fetch');
  if (fetch === undefined) return call();
  Object.defineProperty(globalThis, 'fetch', { value: undefined, configurable: true });
  try {
    return call();
  } finally {
    Object.defineProperty(globalThis, 'fetch', fetch);
  }
}

export async function loadJavaScriptDecoder(): Promise<ZstdDecoder> {
  const { Decompress } = await import('fzstd');
  return (frame, size) => {
    // By its stream: given a buffer to fill, it would not tell how much of it was filled.
    const output = new Uint8Array(size);
    let length = 0;
    const stream = new Decompress((block) => {
      if (length + block.length > size) throw new Error('its content is too large');
      output.set(block, length);
      length += block.length;
    });
    stream.push(frame, true);
    return output.subarray(0, length);
  };
}
