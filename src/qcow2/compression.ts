// One compressed cluster: from its descriptor to its bytes.

import { ImageError } from '../errors.ts';
import type { Codecs } from '../io/host.ts';
import type { Storage } from '../io/storage.ts';
import type { MapRun } from './mapping.ts';
import type { CompressionType } from './spec.ts';

/** The whole guest cluster. Throws `corrupt` where the bytes don't inflate to exactly that. */
export async function decompressCluster(
  codecs: Codecs | undefined,
  storage: Storage,
  type: CompressionType,
  clusterSize: number,
  run: Pick<MapRun, 'host' | 'compressedBytes'>,
): Promise<Uint8Array> {
  if (codecs === undefined) {
    throw new ImageError('unsupported', `${storage.filename}: compressed clusters need codecs`);
  }
  const where = `${storage.filename}: compressed cluster at offset 0x${run.host.toString(16)}`;
  if (run.host >= storage.size) throw new ImageError('corrupt', `${where} is past the end`);
  // The last sector may lie past the end of the file; what is there counts as zeros.
  const compressed = new Uint8Array(Math.min(run.compressedBytes, storage.size - run.host));
  await storage.read(run.host, compressed);
  let cluster: Uint8Array;
  try {
    cluster =
      type === 'zlib'
        ? await codecs.inflateRaw(compressed, clusterSize)
        : await codecs.decompressZstd(compressed, clusterSize);
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
