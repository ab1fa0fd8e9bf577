// The library's calls on Node.js: the engine's, with this machine as their host.

import type { Chain } from './chain/chain.ts';
import * as chain from './chain/open.ts';
import * as engine from './commit/commit.ts';
import type { CommitOptions, CommitResult } from './commit/options.ts';
import { nodeHost } from './io/node-host.ts';
import * as qcow2 from './qcow2/create.ts';
import type { Qcow2Image } from './qcow2/image.ts';

type WithoutHost<T> = Omit<T, 'host'> & Partial<Pick<T, 'host' & keyof T>>;

/**
 * Opens the chain that starts at `filename`. Without `format` the top is probed; with `writable`
 * the top can be written to. Close it in the end, or hold it with `await using`.
 */
export function openChain(
  filename: string,
  options: WithoutHost<chain.OpenChainOptions> = {},
): Promise<Chain> {
  return chain.openChain(filename, { host: nodeHost, ...options });
}

/** Merges layers of the chain of `filename` down into a base: see CommitOptions. */
export function commit(
  filename: string,
  options: WithoutHost<CommitOptions> = {},
): Promise<CommitResult> {
  return engine.commit(filename, { host: nodeHost, ...options });
}

/** Creates a qcow2 image; a file of that name is replaced. The image comes open for writing. */
export async function createImage(
  filename: string,
  options: qcow2.CreateOptions,
): Promise<Qcow2Image> {
  const storage = await nodeHost.createStorage(filename);
  try {
    return await qcow2.createImage(storage, options);
  } catch (error) {
    await storage.close();
    throw error;
  }
}
