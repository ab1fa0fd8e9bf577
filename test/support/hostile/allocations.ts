// The largest array of bytes that anybody asks for, so that a number out of a file that sizes one is
// found although the machine has the memory.

export interface Largest {
  readonly bytes: number;
  reset(): void;
}

/** Watches this process from now on; it gets a little slower. */
export function watchAllocations(): Largest {
  let bytes = 0;
  const scope = globalThis as unknown as Record<string, new (...args: unknown[]) => object>;
  for (const name of ['Uint8Array', 'Uint16Array', 'Uint32Array', 'Float64Array']) {
    const original = scope[name];
    if (original === undefined) continue;
    const width = Reflect.get(original, 'BYTES_PER_ELEMENT') as number;
    scope[name] = new Proxy(original, {
      construct(target, args, newTarget) {
        const [length] = args;
        if (typeof length === 'number') bytes = Math.max(bytes, length * width);
        return Reflect.construct(target, args, newTarget);
      },
    });
  }
  return {
    get bytes() {
      return bytes;
    },
    reset() {
      bytes = 0;
    },
  };
}
