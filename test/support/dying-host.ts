// A process that is killed: from some change or sync on, nothing that it does reaches its files. What it
// did before is there for the next one, synced or not.

import { ImageError } from '../../src/errors.ts';
import { FilterStorage } from '../../src/io/filter.ts';
import type { Host } from '../../src/io/host.ts';
import type { Storage, WriteKind } from '../../src/io/storage.ts';

/** When a process is killed: the number of changes, or of syncs, that it gets through. */
export interface Life {
  readonly changes?: number;
  readonly syncs?: number;
}

type Live = (kind: 'changes' | 'syncs') => void;

/** The host as a process sees it that is killed. */
export function dyingHost(host: Host, { changes = Infinity, syncs = Infinity }: Life): Host {
  const left = { changes, syncs };
  let isDead = false;
  const live: Live = (kind) => {
    isDead ||= left[kind]-- <= 0;
    if (isDead) throw new ImageError('io', 'killed', { errno: 'EIO' });
  };
  return {
    codecs: host.codecs,
    now: () => host.now(),
    sleep: (...args) => host.sleep(...args),
    createStorage: (...args) => host.createStorage(...args),
    identify: (...args) => host.identify(...args),
    realPath: (...args) => host.realPath(...args),
    listFiles: (...args) => host.listFiles(...args),
    freeSpace: (...args) => host.freeSpace(...args),
    openStorage: async (...args) => new DyingStorage(await host.openStorage(...args), live),
    async remove(filename) {
      live('changes');
      await host.remove(filename);
    },
  };
}

class DyingStorage extends FilterStorage {
  readonly #live: Live;

  constructor(inner: Storage, live: Live) {
    super(inner);
    this.#live = live;
  }

  override async write(offset: number, source: Uint8Array, kind: WriteKind): Promise<void> {
    this.#live('changes');
    await super.write(offset, source, kind);
  }
  override async zero(offset: number, length: number, kind: WriteKind): Promise<void> {
    this.#live('changes');
    await super.zero(offset, length, kind);
  }
  override async discard(offset: number, length: number): Promise<void> {
    this.#live('changes');
    await super.discard(offset, length);
  }
  override async copyFrom(
    ...[source, from, to, length]: Parameters<Storage['copyFrom']>
  ): Promise<number> {
    this.#live('changes');
    return super.copyFrom(source, from, to, length);
  }
  override async resize(size: number): Promise<void> {
    this.#live('changes');
    await super.resize(size);
  }
  override async flush(): Promise<void> {
    this.#live('syncs');
    await super.flush();
  }
}
