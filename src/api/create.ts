// New images.

import type { Chain as EngineChain } from '../chain/chain.ts';
import { hostFileOf, resolveName } from '../chain/filename.ts';
import { ImageError } from '../errors.ts';
import type { Host } from '../io/host.ts';
import type { Storage } from '../io/storage.ts';
import * as qcow2 from '../qcow2/create.ts';
import type { Cancellable, Chain } from './chain.ts';
import { checkChoice } from './checks.ts';
import type { NewEncryption } from './encryption.ts';
import { openEngine } from './engine-chain.ts';
import { toEngine } from './engine-secrets.ts';
import { nodeHost } from './node-host.ts';
import { openChain } from './open-chain.ts';
import type { Secrets } from './secrets.ts';
import { stoppable } from './stoppable.ts';

/** The image that {@link createImage} makes. */
export interface CreateOptions extends Cancellable {
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
  /**
   * Clusters of 32 subclusters, so that overlays with large clusters copy less on write: version 3
   * alone, with clusters of 16 KiB at least. Default false.
   */
  readonly extendedL2?: boolean;
  /** Stored as it is; relative names are looked up beside the new image. Default: none. */
  readonly backingFile?: string;
  /** `qcow2` or `raw`. Store it: a format that has to be guessed is never committed into. */
  readonly backingFormat?: 'qcow2' | 'raw';
  /**
   * Clusters that are taken at once: `metadata` maps all of them, `falloc` also sets their space
   * aside, `full` writes zeros. With a backing file only together with `extendedL2`. Default `off`.
   */
  readonly preallocation?: 'off' | 'metadata' | 'falloc' | 'full';
  /** Encrypts the disk. Default: not encrypted. */
  readonly encryption?: NewEncryption;
  /** Passphrases of encrypted images below. Default: none. */
  readonly secrets?: Secrets;
  /** Where files are. Default `nodeHost`, this machine. */
  readonly host?: Host;
}

/**
 * Creates a qcow2 image; a file of that name is replaced. Resolves to its chain, open for writing,
 * all backing files included. Options out of their range, and a backing file that can't be opened,
 * are refused before anything is created; a file that can't be filled, or was cancelled, is removed.
 * Rejects with `invalid` (an option out of its range, or a file that is part of the chain which the
 * image would stand on), `not-found` (the directory), `busy`, `read-only`, `no-space`, `unsupported` (a name with a protocol but
 * `file:`) or `io`; for the backing file as {@link openChain}.
 *
 * Source: the specification's "Header" and "Header extensions".
 */
export async function createImage(filename: string, options: CreateOptions): Promise<Chain> {
  const { host = nodeHost, signal, encryption: wanted, secrets, ...plain } = options;
  const file = hostFileOf(filename);
  checkChoices(plain);
  const encryption = wanted && toEngine(wanted);
  const image = { ...plain, ...(encryption && { encryption }) };
  qcow2.checkCreateOptions(image, file);
  const cancel = signal && { signal };
  const { backingFile, backingFormat } = image;
  if (backingFile !== undefined) {
    const format = backingFormat !== undefined && { format: backingFormat };
    const open = { ...format, ...cancel, ...(secrets && { secrets }), host };
    await checkBelow(await openEngine(resolveName(file, backingFile), open), file, host);
  }
  signal?.throwIfAborted();
  await fill(await host.createStorage(file), file, host, (storage) =>
    qcow2.createImage(stoppable(storage, signal), image, undefined, host),
  );
  const keys = { ...secrets, ...(encryption && { [NEW_KEY]: encryption.passphrase }) };
  const open = { writable: true, host, secrets: keys, ...cancel };
  if (encryption === undefined) return openChain(file, { format: 'qcow2', ...open });
  return openChain(
    { driver: 'qcow2', encrypt: { 'key-secret': NEW_KEY }, file: { filename: file } },
    open,
  );
}

/** No name of a secret in any image: those begin with a letter. */
const NEW_KEY = '.new';

function checkChoices(options: Omit<CreateOptions, 'size'>): void {
  checkChoice('version', options.version, [2, 3]);
  checkChoice('compressionType', options.compressionType, ['zlib', 'zstd']);
  checkChoice('backingFormat', options.backingFormat, ['qcow2', 'raw']);
  checkChoice('preallocation', options.preallocation, ['off', 'metadata', 'falloc', 'full']);
}

/** A file of the chain that the new image stands on is not to be replaced by it. */
async function checkBelow(chain: EngineChain, file: string, host: Host): Promise<void> {
  const { layers } = chain;
  await chain.close();
  const id = (await host.identify(file))?.id;
  if (id === undefined || !layers.some((layer) => layer.id === id)) return;
  throw new ImageError('invalid', `'${file}' is part of the chain that it would stand on`);
}

/** Half an image is of no use to anybody. */
async function fill(
  storage: Storage,
  file: string,
  host: Host,
  work: (storage: Storage) => Promise<unknown>,
): Promise<void> {
  try {
    await work(storage);
  } catch (error) {
    if (storage.resizable) await host.remove(file).catch(() => undefined);
    throw error;
  } finally {
    await storage.close();
  }
}
