// The read path of one image: the map says where the bytes of a range are; here they are fetched,
// from the image, from the layer below, or out of a compressed cluster.

import { ImageError } from '../errors.ts';
import type { Codecs } from '../io/host.ts';
import type { Storage } from '../io/storage.ts';
import type { Layer } from '../layer.ts';
import { decompressCluster } from './compression.ts';
import type { Header } from './header.ts';
import { type MapContext, type MapRun, mapRuns } from './mapping.ts';

/** What the reader has to know of its image. */
export interface ReaderImage {
  readonly storage: Storage;
  readonly codecs: Codecs | undefined;
  backing(): Layer | null;
  /** Told that there is nothing below, whatever the header says. */
  standsAlone(): boolean;
  header(): Header;
  /** Another one when the image has read its tables anew. */
  context(): MapContext;
}

/** A compressed cluster that is being read, or was last: callers come in pieces of it. */
interface Inflated {
  readonly host: number;
  readonly compressedBytes: number;
  readonly cluster: Promise<Uint8Array>;
}

export class Reader {
  readonly #image: ReaderImage;
  #inflated: Inflated | undefined;

  constructor(image: ReaderImage) {
    this.#image = image;
  }

  /** The guest's view, for a caller that holds the range. */
  async read(offset: number, target: Uint8Array): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const runs = await mapRuns(this.#image.context(), offset + done, target.length - done);
      for (const run of runs) {
        await this.#readRun(run, target.subarray(done, done + run.length));
        done += run.length;
      }
    }
  }

  async #readRun(run: MapRun, target: Uint8Array): Promise<void> {
    const { data } = this.#image.context();
    if (run.kind === 'zero') target.fill(0);
    else if (run.kind === 'data') {
      this.#image.storage.event?.('read_aio');
      await data.read(run.host, run.offset, target);
    } else if (run.kind === 'unallocated') await this.#readBelow(run.offset, target);
    else await this.#readCompressed(run, target);
  }

  /** From the layer below; past its end, or without one, there are zeros. */
  async #readBelow(offset: number, target: Uint8Array): Promise<void> {
    const missing = this.missingBacking();
    if (missing !== undefined) throw missing;
    const backing = this.#image.backing();
    const covered = Math.max(0, Math.min(target.length, (backing?.size ?? 0) - offset));
    if (backing !== null && covered > 0) {
      this.#image.storage.event?.('read_backing_aio');
      await backing.read(offset, target.subarray(0, covered));
    }
    target.fill(0, covered);
  }

  missingBacking(): ImageError | undefined {
    const { lacksBacking } = this;
    return lacksBacking && !this.#image.standsAlone() ? this.backingNotOpen() : undefined;
  }

  /** Its data would read as zeros, and writes would copy those zeros. */
  get lacksBacking(): boolean {
    return this.#image.backing() === null && this.#image.header().backingFile !== null;
  }

  backingNotOpen(): ImageError {
    return new ImageError(
      'invalid',
      `${this.#image.storage.filename}: its backing file '${this.#image.header().backingFile}' ` +
        'is not open; open the image as a chain',
    );
  }

  /** Where nobody writes, what lies at one place stays the same. */
  #once(
    { host, compressedBytes }: MapRun,
    inflate: () => Promise<Uint8Array>,
  ): Promise<Uint8Array> {
    const last = this.#inflated;
    if (last?.host === host && last.compressedBytes === compressedBytes) return last.cluster;
    const cluster = inflate();
    this.#inflated = { host, compressedBytes, cluster };
    return cluster;
  }

  async #readCompressed(run: MapRun, target: Uint8Array): Promise<void> {
    const { storage, codecs } = this.#image;
    storage.event?.('read_compressed');
    const { clusterSize } = this.#image.context().geometry;
    const type = this.#image.header().compressionType;
    const inflate = () => decompressCluster(codecs, storage, type, clusterSize, run);
    const cluster = await (storage.writable ? inflate() : this.#once(run, inflate));
    const within = run.offset % clusterSize;
    target.set(cluster.subarray(within, within + run.length));
  }
}
