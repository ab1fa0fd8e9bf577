// Compressed clusters: from their descriptors to their bytes.

import { ImageError } from '../errors.ts';
import type { Codecs } from '../io/host.ts';
import type { Storage } from '../io/storage.ts';
import { MIB } from '../units.ts';
import type { MapRun } from './mapping.ts';
import type { CompressionType } from './spec.ts';

/** What decompression has to know of its image. */
export interface CompressedImage {
  readonly storage: Storage;
  readonly codecs: Codecs | undefined;
  readonly type: CompressionType;
  readonly clusterSize: number;
}

/** A cluster, or a part of it, and where its bytes go. */
export interface CompressedPart {
  readonly run: Pick<MapRun, 'host' | 'compressedBytes' | 'offset' | 'length'>;
  readonly target: Uint8Array;
}

/** Compressed bytes that are read at once where clusters lie one behind the other. */
const MAX_READ = MIB;
/** What is read in between for nothing, rather than by another request. */
const MAX_GAP = 64 * 1024;

/**
 * Reads clusters, those that lie together at once, and decompresses them side by side. When it
 * rejects, with what is wrong with the first that fails, no target is written to any more.
 */
export async function decompressParts(
  image: CompressedImage,
  parts: readonly CompressedPart[],
): Promise<void> {
  for (let first = 0; first < parts.length; ) {
    const { storage } = image;
    const end = storage.event ? first + 1 : neighboursFrom(parts, first);
    const group = parts.slice(first, end);
    const from = group[0]?.run.host ?? 0;
    const last = Math.max(...group.map(({ run }) => run.host + run.compressedBytes));
    storage.event?.('read_compressed');
    checkPlaces(storage, group);
    // The last sector may lie past the end of the file; what is there counts as zeros.
    const length = Math.min(last, storage.size) - from;
    const buffer = takeBuffer(length);
    const bytes = buffer.subarray(0, length);
    await storage.read(from, bytes);
    const decoded = await Promise.allSettled(
      group.map(({ run, target }) => {
        const start = run.host - from;
        const compressed = bytes.subarray(start, start + run.compressedBytes);
        return decompressPart(image, run, compressed, target);
      }),
    );
    giveBack(buffer);
    for (const each of decoded) if (each.status === 'rejected') throw each.reason;
    first = end;
  }
}

/** Buffers of MAX_READ bytes that nobody reads into: new ones cost more than what they are for. */
const idle: Uint8Array[] = [];
const MOST_IDLE = 8;

function takeBuffer(length: number): Uint8Array {
  return length <= MAX_READ ? (idle.pop() ?? new Uint8Array(MAX_READ)) : new Uint8Array(length);
}

function giveBack(buffer: Uint8Array): void {
  if (buffer.length === MAX_READ && idle.length < MOST_IDLE) idle.push(buffer);
}

/** The end of the parts that one read fetches: their places rise, without much in between. */
function neighboursFrom(parts: readonly CompressedPart[], first: number): number {
  const start = parts[first]?.run;
  if (start === undefined) return first;
  let reached = start.host + start.compressedBytes;
  let end = first + 1;
  for (; end < parts.length; end++) {
    const run = parts[end]?.run;
    if (run === undefined || run.host < start.host || run.host > reached + MAX_GAP) break;
    const next = Math.max(reached, run.host + run.compressedBytes);
    if (next - start.host > MAX_READ) break;
    reached = next;
  }
  return end;
}

function nameOf(storage: Storage, host: number): string {
  return `${storage.filename}: compressed cluster at offset 0x${host.toString(16)}`;
}

function checkPlaces(storage: Storage, parts: readonly CompressedPart[]): void {
  for (const { run } of parts) {
    if (run.host < storage.size) continue;
    throw new ImageError('corrupt', `${nameOf(storage, run.host)} is past the end`);
  }
}

async function decompressPart(
  image: CompressedImage,
  run: CompressedPart['run'],
  compressed: Uint8Array,
  target: Uint8Array,
): Promise<void> {
  const { clusterSize } = image;
  const whole = target.length === clusterSize;
  const cluster = await decompress(image, run.host, compressed, whole ? target : undefined);
  if (cluster.buffer === target.buffer && cluster.byteOffset === target.byteOffset) return;
  const within = run.offset % clusterSize;
  target.set(cluster.subarray(within, within + target.length));
}

/** The whole guest cluster. Throws `corrupt` where the bytes don't inflate to exactly that. */
async function decompress(
  { storage, codecs, type, clusterSize }: CompressedImage,
  host: number,
  compressed: Uint8Array,
  into: Uint8Array | undefined,
): Promise<Uint8Array> {
  if (codecs === undefined) {
    throw new ImageError('unsupported', `${storage.filename}: compressed clusters need codecs`);
  }
  const where = nameOf(storage, host);
  let cluster: Uint8Array;
  try {
    cluster =
      type === 'zlib'
        ? await codecs.inflateRaw(compressed, clusterSize, into)
        : await codecs.decompressZstd(compressed, clusterSize, into);
  } catch (cause) {
    if (cause instanceof ImageError && cause.code !== 'corrupt') throw cause;
    throw new ImageError('corrupt', `${where} can't be decompressed`, { cause, errno: 'EIO' });
  }
  if (cluster.length !== clusterSize) {
    throw new ImageError('corrupt', `${where} holds only ${cluster.length} bytes`, {
      errno: 'EIO',
    });
  }
  return cluster;
}
