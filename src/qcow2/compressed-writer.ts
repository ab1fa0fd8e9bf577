// Writes guest clusters compressed, where that makes them smaller ("Compressed Clusters Descriptor").
// Clusters are compressed side by side, packed one behind the other, and published together.

import { assert, ImageError } from '../errors.ts';
import type { Codecs } from '../io/host.ts';
import type { Storage } from '../io/storage.ts';
import { alignDown } from '../units.ts';
import { BytePacker } from './byte-packer.ts';
import type { DataStore } from './data-store.ts';
import { encodeCompressed } from './l2-entry.ts';
import { entryAt, type PlaceContext } from './place.ts';
import { compressedClusters, forEachCluster, release } from './publish.ts';
import type { CompressionType } from './spec.ts';
import { setSubclusters } from './subclusters.ts';
import type { Writer } from './writer.ts';

/** One guest cluster to its compressed form. */
export type Compress = (cluster: Uint8Array) => Promise<Uint8Array>;

/** The image's way to compress a cluster, or why there is none. */
export function compressorFor(
  image: {
    readonly filename: string;
    readonly data: DataStore;
    readonly header: { readonly compressionType: CompressionType };
  },
  codecs: Codecs | undefined,
): Compress | ImageError {
  const { filename, data, header } = image;
  const refusal = (why: string) =>
    new ImageError('unsupported', `'${filename}' can't hold compressed clusters: ${why}`);
  if (data.external) return refusal('its data lies in an external data file');
  if (data.opaque) return refusal('it is encrypted');
  if (header.compressionType === 'zlib') {
    const deflate = codecs?.deflateRaw;
    return deflate ? (cluster) => deflate(cluster) : refusal('there is no codec for zlib');
  }
  const compress = codecs?.compressZstd;
  if (compress) return (cluster) => compress(cluster);
  return refusal('zstd needs Node.js 22.15 or later; zlib is there in all');
}

interface CompressedWriterImage {
  readonly storage: Storage;
  readonly writer: Pick<Writer, 'queue' | 'ranges' | 'checkpointIfFull'>;
  context(): PlaceContext;
  /** The way of everything that is not, or does not get, smaller. */
  writePlain(offset: number, source: Uint8Array): Promise<void>;
}

/** A cluster, and its compressed form where it is smaller. */
interface Candidate {
  readonly source: Uint8Array;
  readonly compressed: Uint8Array | null;
}

export class CompressedWriter {
  readonly #image: CompressedWriterImage;
  readonly #packer = new BytePacker();

  constructor(image: CompressedWriterImage) {
    this.#image = image;
  }

  /** `diskEnd`: a last cluster that the disk has in part is filled up with zeros. */
  async write(
    offset: number,
    source: Uint8Array,
    compress: Compress,
    diskEnd: number,
  ): Promise<void> {
    const { clusterSize } = this.#image.context().geometry;
    const head = Math.min(source.length, (clusterSize - (offset % clusterSize)) % clusterSize);
    if (head > 0) await this.#image.writePlain(offset, source.subarray(0, head));
    const start = offset + head;
    const end = offset + source.length;
    const bodyEnd = end === diskEnd ? end : alignDown(end, clusterSize);
    if (bodyEnd > start) await this.#body(start, source.subarray(head, bodyEnd - offset), compress);
    const rest = Math.max(start, bodyEnd);
    if (rest < end) await this.#image.writePlain(rest, source.subarray(rest - offset));
  }

  async #body(start: number, source: Uint8Array, compress: Compress): Promise<void> {
    const { clusterSize } = this.#image.context().geometry;
    const clusters = Array.from({ length: Math.ceil(source.length / clusterSize) }, (_, i) =>
      source.subarray(i * clusterSize, (i + 1) * clusterSize),
    );
    const candidates = await Promise.all(
      clusters.map(async (cluster): Promise<Candidate> => {
        const compressed = await compress(padded(cluster, clusterSize));
        return {
          source: cluster,
          compressed: compressed.length < clusterSize ? compressed : null,
        };
      }),
    );
    for (let i = 0; i < candidates.length; ) {
      const isSmaller = candidates[i]?.compressed !== null;
      let end = i;
      while (end < candidates.length && (candidates[end]?.compressed !== null) === isSmaller) end++;
      const offset = start + i * clusterSize;
      if (isSmaller) {
        await this.#store(
          offset,
          candidates.slice(i, end).flatMap(({ compressed }) => compressed ?? []),
        );
      } else
        await this.#image.writePlain(offset, source.subarray(i * clusterSize, end * clusterSize));
      i = end;
    }
  }

  /** Takes room for neighbouring clusters, writes them there, and points the map to them. */
  async #store(offset: number, clusters: readonly Uint8Array[]): Promise<void> {
    const { ranges, queue } = this.#image.writer;
    const context = this.#image.context();
    const { geometry, tables } = context;
    const end = offset + clusters.length * geometry.clusterSize;
    await ranges.exclusive(offset, end, async () => {
      const hosts: number[] = [];
      const giveUp = (): void => {
        for (const [i, host] of hosts.entries()) {
          const { first, count } = compressedClusters(geometry, host, clusters[i]?.length ?? 1);
          tables.free(first, count);
        }
      };
      try {
        await queue.run(async () => {
          this.#image.storage.event?.('cluster_alloc_bytes');
          for (const { length } of clusters) hosts.push(await this.#packer.take(context, length));
        });
        await this.#writeOut(hosts, clusters);
      } catch (error) {
        await queue.run(async () => giveUp());
        throw error;
      }
      await queue.run(async () => {
        this.#image.storage.event?.('l2_update_compressed');
        await forEachCluster(context, offset, clusters.length, (table, position, i) => {
          const bytes = clusters[i];
          const host = hosts[i];
          assert(bytes !== undefined && host !== undefined, 'a cluster without a place');
          release(context, entryAt(context, table, offset + i * geometry.clusterSize), -1);
          encodeCompressed(table.view, position, geometry, host, bytes.length);
          if (geometry.extendedL2) setSubclusters(table.view, position, 0, 0);
          tables.touched(table, position);
        });
        await this.#image.writer.checkpointIfFull();
      });
    });
  }

  /** What was packed one behind the other goes out in one write. */
  async #writeOut(hosts: readonly number[], clusters: readonly Uint8Array[]): Promise<void> {
    const { storage } = this.#image;
    for (let i = 0; i < clusters.length; ) {
      const host = hosts[i] ?? 0;
      let length = 0;
      const pieces: Uint8Array[] = [];
      while (i < clusters.length && hosts[i] === host + length) {
        const piece = clusters[i++] ?? new Uint8Array();
        pieces.push(piece);
        length += piece.length;
      }
      const joined = new Uint8Array(length);
      let at = 0;
      for (const piece of pieces) {
        joined.set(piece, at);
        at += piece.length;
      }
      storage.event?.('write_compressed');
      await storage.write(host, joined, 'data');
    }
  }
}

function padded(cluster: Uint8Array, clusterSize: number): Uint8Array {
  if (cluster.length === clusterSize) return cluster;
  const whole = new Uint8Array(clusterSize);
  whole.set(cluster);
  return whole;
}
