// A layer that is a list of runs: its extents without any image.

import { MemoryStorage } from '../../src/io/memory.ts';
import type { Extent, HostRange, Layer } from '../../src/layer.ts';

export interface FakeRun {
  readonly kind: 'unallocated' | 'zero' | 'data';
  readonly length: number;
  /** Data: has no place in the host file, as if it were compressed. */
  readonly hidden?: boolean;
}

export class FakeLayer implements Layer {
  readonly format = 'qcow2';
  readonly clusterSize = 1;
  readonly writable = false;
  readonly storage = new MemoryStorage();
  readonly filename: string;
  readonly size: number;
  backing: Layer | null = null;
  readonly #extents: readonly Extent[];
  /** An answer has so many extents at most. */
  readonly #most: number;

  constructor(filename: string, runs: readonly FakeRun[], most = Number.POSITIVE_INFINITY) {
    this.filename = filename;
    this.size = runs.reduce((sum, { length }) => sum + length, 0);
    this.#most = most;
    let offset = 0;
    this.#extents = runs.map(({ kind, length, hidden }): Extent => {
      const at = offset;
      offset += length;
      if (kind !== 'data') return { kind, offset: at, length };
      const host = hidden ? null : { storage: this.storage, offset: 1000 + at };
      return { kind, offset: at, length, host };
    });
  }

  async extents(offset: number, length: number): Promise<readonly Extent[]> {
    if (offset < 0 || length <= 0 || offset + length > this.size) throw new Error('outside');
    const end = offset + length;
    return this.#extents
      .filter((extent) => extent.offset < end && offset < extent.offset + extent.length)
      .slice(0, this.#most)
      .map((extent) => cut(extent, offset, end));
  }

  read(): Promise<void> {
    return unused();
  }
  write(): Promise<void> {
    return unused();
  }
  zero(): Promise<void> {
    return unused();
  }
  writeFrom(_offset: number, _source: HostRange, _length: number): Promise<void> {
    return unused();
  }
  grow(): Promise<void> {
    return unused();
  }
  async flush(): Promise<void> {}
  async close(): Promise<void> {}
}

function cut(extent: Extent, from: number, to: number): Extent {
  const offset = Math.max(extent.offset, from);
  const length = Math.min(extent.offset + extent.length, to) - offset;
  if (extent.kind !== 'data') return { ...extent, offset, length };
  const moved = offset - extent.offset;
  const host = extent.host && { ...extent.host, offset: extent.host.offset + moved };
  return { ...extent, offset, length, host };
}

async function unused(): Promise<never> {
  throw new Error('a fake layer holds no bytes');
}
