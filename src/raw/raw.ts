// A raw file or device as a layer: the guest's bytes as they are. It has no backing file.

import { ImageError } from '../errors.ts';
import { copyBytes } from '../io/copy.ts';
import type { PlacedRanges } from '../io/placed-ranges.ts';
import type { Storage } from '../io/storage.ts';
import { checkRange, type Extent, type HostRange, type Layer, type LayerFormat } from '../layer.ts';
import { alignUp, SECTOR } from '../units.ts';

/** Holes are asked for one by one; an answer covers at most so many. */
const MAX_EXTENTS = 1024;

/** Where the bytes come from in the end. */
export interface RawSource {
  /** They begin here: in the image, or without one in the file. */
  readonly offset: number;
  /** Whose guest's bytes they are; without it, those of a file. */
  readonly image?: {
    readonly top: Layer;
    /** With what those below it say where it says nothing. */
    readonly extents: Layer['extents'];
    /** Names what holds its bytes. */
    readonly fileName: string;
  };
}

export const WHOLE_FILE: RawSource = { offset: 0 };

export class RawImage implements Layer {
  readonly format: LayerFormat;
  readonly clusterSize = SECTOR;
  readonly backing = null;
  readonly storage: Storage;
  readonly source: RawSource;

  /** `format`: where the bytes were opened as what they are, the driver that gives them. */
  constructor(storage: Storage, format: LayerFormat = 'raw', source: RawSource = WHOLE_FILE) {
    this.format = format;
    this.storage = storage;
    this.source = source;
  }

  get filename(): string {
    return this.storage.filename;
  }

  /** A disk has whole sectors: the last one is filled with zeros. */
  get size(): number {
    return alignUp(this.storage.size, SECTOR);
  }

  get writable(): boolean {
    return this.storage.writable;
  }

  async extents(offset: number, length: number): Promise<readonly Extent[]> {
    checkRange(this, offset, length);
    const inside = Math.min(length, this.storage.size - offset);
    if (this.source.image !== undefined && inside > 0) return this.#imageExtents(offset, inside);
    const extents: Extent[] = [];
    const end = offset + length;
    for (let at = offset; at < end && extents.length < MAX_EXTENTS; ) {
      if (at >= this.storage.size) {
        extents.push({ kind: 'zero', offset: at, length: end - at });
        break;
      }
      const { data, end: stretchEnd } = await this.storage.extentAt(at);
      // A hole at the end of the file goes on to the end of the sector.
      const isLastHole = !data && stretchEnd >= this.storage.size;
      const length = (isLastHole ? end : Math.min(stretchEnd, end)) - at;
      if (data) {
        const host = { storage: this.storage, offset: at };
        extents.push({ kind: 'data', offset: at, length, host });
      } else extents.push({ kind: 'zero', offset: at, length });
      at += length;
    }
    return extents;
  }

  async #imageExtents(offset: number, length: number): Promise<readonly Extent[]> {
    const { image, offset: start } = this.source;
    const found = (await image?.extents(start + offset, length)) ?? [];
    return found.map((extent) => ({ ...extent, offset: extent.offset - start }));
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    checkRange(this, offset, target.length);
    this.storage.event?.('read_aio');
    await this.storage.read(offset, target);
  }

  async write(offset: number, source: Uint8Array): Promise<void> {
    checkRange(this, offset, source.length);
    this.storage.event?.('write_aio');
    await this.storage.write(offset, source, 'data');
  }

  async writeFrom(offset: number, source: HostRange, length: number): Promise<void> {
    checkRange(this, offset, length);
    await copyBytes(source, 0, { storage: this.storage, offset }, length);
  }

  async moveRanges(ranges: PlacedRanges): Promise<number> {
    for (const { offset, length } of ranges) checkRange(this, offset, length);
    const wanted = Array.from(ranges, ({ offset, length, host }) => {
      return { source: host.storage, from: host.offset, to: offset, length };
    });
    return (await this.storage.cloneFrom?.(wanted)) ?? 0;
  }

  async zero(offset: number, length: number): Promise<void> {
    checkRange(this, offset, length);
    if (length > 0) await this.storage.zero(offset, length, 'data');
  }

  async grow(size: number): Promise<void> {
    if (size <= this.size) return;
    if (!this.storage.resizable) {
      throw new ImageError(
        'invalid',
        `${this.filename} has ${this.size} bytes and can't grow to ${size}: it is a device`,
      );
    }
    await this.storage.resize(size);
  }

  async flush(): Promise<void> {
    if (!this.writable) return;
    this.storage.event?.('flush_to_os');
    this.storage.event?.('flush_to_disk');
    await this.storage.flush();
  }

  async close(): Promise<void> {
    await this.storage.close();
  }
}
