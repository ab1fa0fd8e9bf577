// The library's calls on Node.js: the engine's, with this machine as their host.

import type { Chain } from './chain/chain.ts';
import type { BlockDescription } from './chain/description.ts';
import { resolveName } from './chain/filename.ts';
import * as chain from './chain/open.ts';
import * as engine from './commit/commit.ts';
import type { CommitOptions, CommitResult } from './commit/options.ts';
import { nodeHost } from './io/node-host.ts';
import * as qcow2 from './qcow2/create.ts';

type WithoutHost<T> = Omit<T, 'host'> & Partial<Pick<T, 'host' & keyof T>>;

/**
 * Opens the chain that starts at `target`: a name, or a description of an image. Without `format` the top is probed; with `writable`
 * the top can be written to. Close it in the end, or hold it with `await using`.
 */
export function openChain(
  target: string | BlockDescription,
  options: WithoutHost<chain.OpenChainOptions> = {},
): Promise<Chain> {
  return chain.openChain(target, { host: nodeHost, ...options });
}

/** Merges layers of the chain of `target` down into a base: see CommitOptions. */
export function commit(
  target: string | BlockDescription,
  options: WithoutHost<CommitOptions> = {},
): Promise<CommitResult> {
  return engine.commit(target, { host: nodeHost, ...options });
}

/**
 * Creates a qcow2 image; a file of that name is replaced. Returns its chain, open for writing: with
 * a backing file, that one and all below it are open too. A backing file that can't be opened is
 * refused before anything is created.
 */
export async function createImage(filename: string, options: qcow2.CreateOptions): Promise<Chain> {
  const { backingFile, backingFormat } = options;
  if (backingFile !== undefined) {
    const format = backingFormat !== undefined && { format: backingFormat };
    await (await openChain(resolveName(filename, backingFile), { ...format })).close();
  }
  qcow2.checkCreateOptions(options, filename);
  const storage = await nodeHost.createStorage(filename);
  try {
    await qcow2.createImage(storage, options);
  } finally {
    await storage.close();
  }
  return openChain(filename, { format: 'qcow2', writable: true });
}
