// Opens a qcow2 image over a storage, with the data file that may belong to it, and takes locks.

import { ImageError } from '../errors.ts';
import type { Host } from '../io/host.ts';
import { type FilePart, permissionsFor } from '../io/permissions.ts';
import type { Storage } from '../io/storage.ts';
import type { Checking } from '../qcow2/header.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { MIB } from '../units.ts';
import { plainFileNode, type Qcow2Node } from './blockdev.ts';
import { resolveName } from './filename.ts';
import { type NodeContext, openNode } from './open-node.ts';
import { checkEncryptOptions, passphraseOf, type Secrets } from './secrets.ts';

/** Tables in memory, in bytes: the upper layers get more of it, so that deep chains stay bounded. */
const CACHE_TOTAL = 32 * MIB;
const CACHE_PER_LAYER = 16 * MIB;

/** For an image that was opened for reading, and is to be written to. */
export const WRITER = permissionsFor('image', 'write');

export interface LayerContext {
  readonly host: Host;
  readonly writable: boolean;
  readonly forceShare?: boolean;
  readonly describe?: boolean;
  /** The first layer is opened to be checked. */
  readonly checking?: Checking;
  readonly cacheBytes?: number;
  readonly secrets?: Secrets;
  /** Opens encrypted images without their keys. Default: as `describe`. */
  readonly locked?: boolean;
  /** Layers above it. */
  readonly depth: number;
}

/** Closes `storage` where `work` on it fails. */
export async function finish<T>(storage: Storage, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    await storage.close();
    throw error;
  }
}

export async function lock(
  storage: Storage,
  part: FilePart,
  { forceShare, writable, describe, checking }: LayerContext,
): Promise<void> {
  const access = writable ? 'write' : describe && !checking ? 'describe' : 'read';
  const { use, share } = permissionsFor(part, access, forceShare);
  try {
    await storage.lock(use, share);
  } catch (error) {
    if (part === 'image' || !(error instanceof ImageError)) throw error;
    throw error.message.includes('shared') ? error : new FileBelowError(error);
  }
}

/** Of a file without tables: it is the layer above that uses it, once it is there itself. */
export class FileBelowError extends ImageError {
  constructor(cause: ImageError) {
    const { code, message, errno, hint } = cause;
    super(code, message, {
      cause,
      findHolders: () => cause.holders,
      ...(errno !== undefined && { errno }),
      ...(hint !== undefined && { hint }),
    });
  }
}

/** The image in `storage`. `nodes`: how files beside it are opened. */
export async function openQcow2(
  node: Qcow2Node,
  storage: Storage,
  context: LayerContext,
  nodes: NodeContext,
): Promise<Qcow2Image> {
  const { host, depth, writable, describe, checking, cacheBytes = CACHE_PER_LAYER } = context;
  const { locked = describe === true, secrets } = context;
  const purpose = depth === 0 && checking !== undefined ? checking : false;
  const image = await Qcow2Image.open(storage, {
    codecs: host.codecs,
    openDataFile: (name) => openDataFile(node, storage.filename, name, context, nodes),
    describe,
    guarded: node.guarded,
    checking: purpose,
    passphrase(header) {
      checkEncryptOptions(header, node.encrypt);
      return locked ? undefined : passphraseOf(header, node.encrypt, secrets);
    },
    cacheBytes: Math.min(CACHE_PER_LAYER, CACHE_TOTAL / (depth + 1), node.cacheBytes ?? cacheBytes),
  });
  // Its data file, too, is closed where something speaks against it.
  return await finish(image.storage, async () => {
    if (writable && image.corrupt && purpose !== 'repair') {
      throw image.refusalToWrite({ dataUnchanged: true });
    }
    checkCacheEntry(node.cacheEntryBytes, image.clusterSize);
    if (node.dataFile !== undefined && !image.geometry.externalData) {
      throw new ImageError(
        'invalid',
        "'data-file' can only be set for images with an external data file",
      );
    }
    const refusal = locked ? image.refusalToMap : image.refusalToRead;
    if (refusal !== null && !describe) throw refusal;
    return image;
  });
}

/** Of QEMU's cache; ours has whole tables, but what makes no sense is refused. */
function checkCacheEntry(bytes: number | undefined, clusterSize: number): void {
  if (bytes === undefined) return;
  if (bytes >= 512 && bytes <= clusterSize && Number.isInteger(Math.log2(bytes))) return;
  throw new ImageError(
    'invalid',
    'L2 cache entry size must be a power of two between 512 and the cluster size ' +
      `(${clusterSize})`,
  );
}

/** The external data file: as told, or else by the name in the header, seen from the image. */
async function openDataFile(
  { dataFile }: Qcow2Node,
  image: string,
  name: string | null,
  context: LayerContext,
  nodes: NodeContext,
): Promise<Storage> {
  if (dataFile === undefined && name === null) {
    throw new ImageError('invalid', "'data-file' is required for this image");
  }
  const named = resolveName(image, name ?? '');
  if (dataFile === undefined) await context.host.checkNamed?.(name ?? '', named);
  const node = dataFile ?? plainFileNode(named);
  const { storage } = await openNode(node, nodes);
  return await finish(storage, async () => {
    await lock(storage, 'data', context);
    return storage;
  });
}
