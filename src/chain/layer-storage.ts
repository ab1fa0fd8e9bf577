// The guest's bytes of an image as a storage: what another image, or a filter, can stand on.

import type { Permission } from '../io/locks.ts';
import type { Storage, StorageExtent } from '../io/storage.ts';
import type { Extent, Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { alignUp, SECTOR } from '../units.ts';

export class LayerStorage implements Storage {
  readonly layer: Layer;
  readonly growsZeroed = true;
  readonly resizable = true;
  readonly #closeAll: () => Promise<void>;
  #grown: Promise<void> = Promise.resolve();

  /** `closeAll` closes the layer and those below it, which were opened for this alone. */
  constructor(layer: Layer, closeAll: () => Promise<void>) {
    this.layer = layer;
    this.#closeAll = closeAll;
  }

  get filename(): string {
    return this.layer.filename;
  }

  get writable(): boolean {
    return this.layer.writable;
  }

  get size(): number {
    return this.layer.size;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const inside = Math.max(0, Math.min(target.length, this.size - offset));
    if (inside > 0) await this.layer.read(offset, target.subarray(0, inside));
    target.fill(0, inside);
  }

  async write(offset: number, source: Uint8Array): Promise<void> {
    await this.#reach(offset + source.length);
    await this.layer.write(offset, source);
  }

  async zero(offset: number, length: number): Promise<void> {
    await this.#reach(offset + length);
    await this.layer.zero(offset, length);
  }

  /** A hint that an image has no use for. */
  async discard(): Promise<void> {}

  async copyFrom(): Promise<number> {
    return 0;
  }

  /** One after the other: a disk only grows. */
  #reach(end: number): Promise<void> {
    if (end <= this.size) return Promise.resolve();
    const size = alignUp(end, SECTOR);
    const grow = async () => {
      if (size > this.size) await this.layer.grow(size);
    };
    this.#grown = this.#grown.then(grow, grow);
    return this.#grown;
  }

  async resize(size: number): Promise<void> {
    const { size: before } = this;
    await this.#reach(size);
    // A disk does not shrink: what is cut off reads as zeros.
    if (size < before) await this.layer.zero(size, before - size);
  }

  /** What the image says, with what those below it say where it says nothing. */
  extents(offset: number, length: number): Promise<readonly Extent[]> {
    return extentsThrough(this.layer, offset, length);
  }

  async extentAt(offset: number): Promise<StorageExtent> {
    const [first] = await this.extents(offset, this.size - offset);
    if (first === undefined) throw new Error(`internal error: no extent at ${offset}`);
    return { data: first.kind === 'data', end: first.offset + first.length };
  }

  allocatedBytes(): Promise<number | undefined> {
    return this.layer.storage.allocatedBytes();
  }

  flush(): Promise<void> {
    return this.layer.flush();
  }

  /** They were taken when the image was opened. */
  async lock(): Promise<void> {}

  async makeWritable(use: readonly Permission[], share: readonly Permission[]): Promise<void> {
    await this.layer.storage.makeWritable(use, share);
    await this.checkWritable();
  }

  /** What a commit asks of its base: nobody asks it of an image below. */
  async checkWritable(): Promise<void> {
    if (!(this.layer instanceof Qcow2Image)) return;
    const refusal = this.layer.refusalToWrite({ dataUnchanged: false });
    if (refusal !== undefined) throw refusal;
    await this.layer.verify();
  }

  close(): Promise<void> {
    return this.#closeAll();
  }
}

async function extentsThrough(
  layer: Layer,
  offset: number,
  length: number,
): Promise<readonly Extent[]> {
  const all: Extent[] = [];
  for (const extent of await layer.extents(offset, length)) {
    if (extent.kind === 'unallocated') all.push(...(await extentsBelow(layer, extent)));
    else all.push(extent);
  }
  return all;
}

async function extentsBelow({ backing }: Layer, extent: Extent): Promise<readonly Extent[]> {
  const end = extent.offset + extent.length;
  const inside = Math.min(end, backing?.size ?? 0);
  if (backing === null || inside <= extent.offset) return [extent];
  const found: Extent[] = [];
  for (let at = extent.offset; at < inside; ) {
    for (const each of await extentsThrough(backing, at, inside - at)) {
      // Lies in another file than the one that will be asked.
      found.push(each.kind === 'data' ? { ...each, host: null } : withoutHost(each));
      at = each.offset + each.length;
    }
  }
  if (inside < end) found.push({ kind: 'unallocated', offset: inside, length: end - inside });
  return found;
}

const withoutHost = ({ kind, offset, length }: Exclude<Extent, { kind: 'data' }>): Extent => ({
  kind,
  offset,
  length,
});
