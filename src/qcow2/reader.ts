// The read path of one image: the map says where the bytes of a range are; here they are fetched,
// from the image, from the layer below, or out of a compressed cluster.

import { ImageError } from '../errors.ts';
import type { Codecs } from '../io/host.ts';
import type { Storage } from '../io/storage.ts';
import type { Layer } from '../layer.ts';
import { decompressParts } from './compression.ts';
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
      for (let i = 0; i < runs.length; ) {
        const together = runs[i]?.kind === 'compressed' ? compressedFrom(runs, i) : 1;
        const parts = runs.slice(i, i + together).map((run) => {
          done += run.length;
          return { run, target: target.subarray(done - run.length, done) };
        });
        await this.#readParts(parts);
        i += together;
      }
    }
  }

  /** One run, or several of compressed clusters. */
  async #readParts(parts: readonly Part[]): Promise<void> {
    const [first] = parts;
    if (first === undefined) return;
    const { run, target } = first;
    const { data, geometry } = this.#image.context();
    if (run.kind === 'zero') target.fill(0);
    else if (run.kind === 'data') {
      this.#image.storage.event?.('read_aio');
      await data.read(run.host, run.offset, target);
    } else if (run.kind === 'unallocated') await this.#readBelow(run.offset, target);
    else await this.#readCompressed(parts, geometry.clusterSize);
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

  async #readCompressed(parts: readonly Part[], clusterSize: number): Promise<void> {
    const { storage, codecs } = this.#image;
    const type = this.#image.header().compressionType;
    const image = { storage, codecs, type, clusterSize };
    const [first] = parts;
    const isPart = parts.length === 1 && first !== undefined && first.run.length < clusterSize;
    if (!isPart || storage.writable) return await decompressParts(image, parts);
    const cluster = await this.#once(first.run, async () => {
      const whole = new Uint8Array(clusterSize);
      const run = { ...first.run, offset: 0, length: clusterSize };
      await decompressParts(image, [{ run, target: whole }]);
      return whole;
    });
    const within = first.run.offset % clusterSize;
    first.target.set(cluster.subarray(within, within + first.target.length));
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
}

interface Part {
  readonly run: MapRun;
  readonly target: Uint8Array;
}

/** How many compressed clusters follow one another from there on. */
function compressedFrom(runs: readonly MapRun[], first: number): number {
  let end = first;
  while (runs[end]?.kind === 'compressed') end++;
  return end - first;
}
