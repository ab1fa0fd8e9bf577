// The reading half of an open image: what its map says, and the guest's view through it and the
// layers below.

import type { ImageError } from '../errors.ts';
import { checkRange, type Extent, type Layer } from '../layer.ts';
import type { GuardedStorage } from './guarded-storage.ts';
import type { Header } from './header.ts';
import type { OpenImageOptions } from './image-options.ts';
import { ImageState } from './image-state.ts';
import { extentOf, mapRuns } from './mapping.ts';
import type { RangeLocks } from './mutex.ts';
import type { OpenedData } from './open-data.ts';
import { Reader } from './reader.ts';
import type { Tables } from './tables.ts';

export abstract class ReadableImage extends ImageState {
  backing: Layer | null = null;
  /** Told that there is nothing below, whatever the header says: reads as zeros. */
  standsAlone = false;
  protected readonly reader: Reader;
  /** Of the guest's disk, shared with who writes. */
  protected abstract readonly ranges: RangeLocks;

  protected constructor(
    storage: GuardedStorage,
    header: Header,
    opened: OpenedData,
    tables: Tables,
    options: OpenImageOptions,
  ) {
    super(storage, header, opened, tables, options);
    this.reader = new Reader({
      storage,
      codecs: options.codecs,
      header: () => this.headerNow,
      backing: () => this.backing,
      context: () => this.context,
      standsAlone: () => this.standsAlone,
    });
  }

  async extents(offset: number, length: number): Promise<readonly Extent[]> {
    checkRange(this, offset, length);
    if (this.refusalToMap !== null) throw this.refusalToMap;
    const runs = await mapRuns(this.context, offset, length);
    return runs.map((run) => extentOf(run, this.data));
  }

  /** The same as the tables have it, also where a cluster lies behind the end of the file. */
  async layout(offset: number, length: number): Promise<readonly Extent[]> {
    checkRange(this, offset, length);
    if (this.refusalToMap !== null) throw this.refusalToMap;
    const runs = await mapRuns({ ...this.context, lenient: true }, offset, length);
    return runs.map((run) => extentOf(run, this.data));
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    checkRange(this, offset, target.length);
    if (this.refusalToRead !== null) throw this.refusalToRead;
    // While we read, what the map points to must not be let go and given to somebody else.
    await this.ranges.shared(offset, offset + target.length, () =>
      this.reader.read(offset, target),
    );
  }

  /** Why what it does not hold can't be read; undefined where it can. */
  missingBacking(): ImageError | undefined {
    return this.reader.missingBacking();
  }
}
