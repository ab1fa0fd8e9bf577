// The bytes of a node as the node above it uses them. Who owns a node closes and locks it: the nodes
// above may come and go.

import { FilterStorage } from '../io/filter.ts';
import type { CloneRange, Storage } from '../io/storage.ts';

export class NodeStorage extends FilterStorage {
  /** Where the file can. */
  readonly cloneFrom?: (ranges: readonly CloneRange[]) => Promise<number>;
  /** Where the file can. */
  readonly allocate?: (offset: number, length: number) => Promise<boolean>;

  constructor(inner: Storage) {
    super(inner);
    if (inner.cloneFrom !== undefined) {
      this.cloneFrom = async (ranges) => {
        const below = ranges.map((range) => ({ ...range, source: owned(range.source) }));
        return (await inner.cloneFrom?.(below)) ?? 0;
      };
    }
    if (inner.allocate !== undefined) {
      this.allocate = async (offset, length) => (await inner.allocate?.(offset, length)) ?? false;
    }
  }

  /** The node's own storage. */
  get owned(): Storage {
    return this.inner;
  }

  override copyFrom(source: Storage, from: number, to: number, length: number): Promise<number> {
    return this.inner.copyFrom(owned(source), from, to, length);
  }

  async canClone(source: Storage): Promise<boolean> {
    return (await this.inner.canClone?.(owned(source))) ?? false;
  }

  /** The graph takes them, as its users together need them. */
  override async lock(): Promise<void> {}

  override async makeWritable(): Promise<void> {}

  override async close(): Promise<void> {}
}

function owned(storage: Storage): Storage {
  return storage instanceof NodeStorage ? owned(storage.owned) : storage;
}
