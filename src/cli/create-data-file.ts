// The external data file of a new image: where it is to be, and that nothing else is there.

import { hostFileOf, protocolOf, resolveName } from '../chain/filename.ts';
import { openChain } from '../chain/open.ts';
import { ImageError } from '../errors.ts';
import type { Host } from '../io/host.ts';
import type { Storage } from '../io/storage.ts';

/**
 * The host file that the image `filename` will find by `name`. Throws where making it anew would
 * destroy the image itself or a layer of its backing chain.
 */
export async function dataFileFor(
  filename: string,
  name: string,
  backing: string | undefined,
  host: Host,
): Promise<string> {
  const file = hostFileOf(protocolOf(name) === null ? resolveName(filename, name) : name);
  const there = await host.identify(file);
  if ((await host.realPath(file)) === (await host.realPath(hostFileOf(filename)))) {
    throw new ImageError('invalid', `'${name}' can't be the data file of itself`);
  }
  if (there === undefined || backing === undefined) return file;
  const chain = await openChain(resolveName(filename, backing), {
    host,
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
  host: Host,
  work: (storage: Storage | undefined) => Promise<T>,
): Promise<T> {
  if (file === undefined) return await work(undefined);
  const storage = await host.createStorage(file);
  try {
    return await work(storage);
  } catch (error) {
    if (storage.resizable) await host.remove(file).catch(() => undefined);
    throw error;
  } finally {
    await storage.close();
  }
}
