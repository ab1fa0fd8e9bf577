// New images.

import { resolveName } from '../chain/filename.ts';
import type { Host } from '../io/host.ts';
import * as qcow2 from '../qcow2/create.ts';
import type { Chain } from './chain.ts';
import { nodeHost } from './node-host.ts';
import { openChain } from './open-chain.ts';

/** The image that {@link createImage} makes. */
export interface CreateOptions {
  /** Size of the virtual disk in bytes, a multiple of 512, 0 to 2^53 - 1. */
  readonly size: number;
  /** In bytes: a power of two, 512 to 2 MiB. Default 65536. */
  readonly clusterSize?: number;
  /** 2 ("compat 0.10") or 3 ("compat 1.1"). Default 3. */
  readonly version?: 2 | 3;
  /** Width of a refcount: a power of two, 1 to 64; version 2 has 16 alone. Default 16. */
  readonly refcountBits?: number;
  /** How compressed clusters will be compressed; version 2 has zlib alone. Default `zlib`. */
  readonly compressionType?: 'zlib' | 'zstd';
  /** Lets QEMU put off writing refcounts; version 3 alone. Default false. */
  readonly lazyRefcounts?: boolean;
  /** Stored as it is; relative names are looked up beside the new image. Default: none. */
  readonly backingFile?: string;
  /** `qcow2` or `raw`. Store it: a format that has to be guessed is never committed into. */
  readonly backingFormat?: 'qcow2' | 'raw';
  /**
   * Clusters that are taken at once: `metadata` maps all of them, `falloc` also sets their space
   * aside, `full` writes zeros. Not with a backing file. Default `off`.
   */
  readonly preallocation?: 'off' | 'metadata' | 'falloc' | 'full';
  /** Where files are. Default `nodeHost`, this machine. */
  readonly host?: Host;
}

/**
 * Creates a qcow2 image; a file of that name is replaced. Resolves to its chain, open for writing,
 * all backing files included. A backing file that can't be opened is refused before anything is
 * created. Rejects with `invalid` (an option out of its range), `not-found`, `busy`, `no-space` or
 * `io`.
 *
 * Source: the specification's "Header" and "Header extensions".
 */
export async function createImage(
  filename: string,
  { host = nodeHost, ...options }: CreateOptions,
): Promise<Chain> {
  const { backingFile, backingFormat } = options;
  if (backingFile !== undefined) {
    const format = backingFormat !== undefined && { format: backingFormat };
    await (await openChain(resolveName(filename, backingFile), { ...format, host })).close();
  }
  qcow2.checkCreateOptions(options, filename);
  const storage = await host.createStorage(filename);
  try {
    await qcow2.createImage(storage, options);
  } finally {
    await storage.close();
  }
  return openChain(filename, { format: 'qcow2', writable: true, host });
}
