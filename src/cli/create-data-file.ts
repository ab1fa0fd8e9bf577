// The external data file of a new image: where it is to be, and that nothing else is there.

import { hostFileOf, protocolOf, resolveName } from '../chain/filename.ts';
import { openChain } from '../chain/open.ts';
import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { nodeHost } from '../nbd/node-host.ts';

/**
 * The host file that the image `filename` will find by `name`. Throws where making it anew would
 * destroy the image itself or a layer of its backing chain.
 */
export async function dataFileFor(
  filename: string,
  name: string,
  backing: string | undefined,
): Promise<string> {
  const file = hostFileOf(protocolOf(name) === null ? resolveName(filename, name) : name);
  const there = await nodeHost.identify(file);
  if ((await nodeHost.realPath(file)) === (await nodeHost.realPath(hostFileOf(filename)))) {
    throw new ImageError('invalid', `'${name}' can't be the data file of itself`);
  }
  if (there === undefined || backing === undefined) return file;
  const chain = await openChain(resolveName(filename, backing), {
    host: nodeHost,
    describe: true,
    forceShare: true,
  }).catch(() => undefined);
  const layer = chain?.layers.find(({ id }) => id === there.id);
  await chain?.close();
  if (layer === undefined) return file;
  throw new ImageError('invalid', `'${name}' is a layer of the backing chain: it would be lost`);
}

/** Creates the data file, if there is to be one; `work` owns its storage. */
export async function withDataFile<T>(
  file: string | undefined,
  work: (storage: Storage | undefined) => Promise<T>,
): Promise<T> {
  if (file === undefined) return await work(undefined);
  const storage = await nodeHost.createStorage(file);
  try {
    return await work(storage);
  } catch (error) {
    if (storage.resizable) await nodeHost.remove(file).catch(() => undefined);
    throw error;
  } finally {
    await storage.close();
  }
}
