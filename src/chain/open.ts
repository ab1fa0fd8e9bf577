// Opens a chain: each layer by the name and format that the one above it stores.

import { ImageError, reworded } from '../errors.ts';
import type { CacheMode, Host } from '../io/host.ts';
import { PERMISSIONS, type Permission } from '../io/locks.ts';
import type { Storage } from '../io/storage.ts';
import type { Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { RawImage } from '../raw/raw.ts';
import { MIB } from '../units.ts';
import { Chain, type ChainLayer } from './chain.ts';
import { hostFileOf, resolveName } from './filename.ts';
import { PROBE_BYTES, probeFormat } from './probe.ts';

export interface OpenChainOptions {
  readonly host: Host;
  /** Format of the top; probed from its content without it. */
  readonly format?: string;
  /** Opens the top for writing; the layers below stay read-only. Default false. */
  readonly writable?: boolean;
  readonly cache?: CacheMode;
  /** Takes no locks; for reading only. */
  readonly forceShare?: boolean;
  /** Opens the top alone. */
  readonly single?: boolean;
  /** Also opens images that can only be described; reading their data then fails. */
  readonly describe?: boolean;
  /** Bound for tables in memory, in bytes, for each layer. Default: shared by the whole chain. */
  readonly cacheBytes?: number;
}

/** More layers than this are taken for a mistake. */
export const MAX_DEPTH = 1000;
/** Tables in memory, in bytes: the upper layers get more of it, so that deep chains stay bounded. */
const CACHE_TOTAL = 32 * MIB;
const CACHE_PER_LAYER = 16 * MIB;

const SHARED_BY_READER: readonly Permission[] = ['consistent read', 'write unchanged'];
export const READER = { use: ['consistent read'], share: SHARED_BY_READER } as const;
export const WRITER = {
  use: ['consistent read', 'write', 'resize'],
  share: SHARED_BY_READER,
} as const;
const EVERYTHING = { use: [], share: PERMISSIONS } as const;

/** Formats of QEMU that we know by name but can't open. */
const FOREIGN = new Set(
  'bochs cloop dmg luks parallels qcow qed vdi vhdx vmdk vpc vvfat replication quorum'.split(' '),
);

export async function openChain(filename: string, options: OpenChainOptions): Promise<Chain> {
  const layers: ChainLayer[] = [];
  try {
    await openLayers(filename, options, layers);
    return new Chain(layers, options.host);
  } catch (error) {
    for (const { layer } of layers) await layer.close().catch(() => undefined);
    throw describe(error, filename, layers);
  }
}

/** The words of the layers above: each one says that its backing file could not be opened. */
function describe(error: unknown, filename: string, opened: readonly ChainLayer[]): unknown {
  if (!(error instanceof ImageError) || error instanceof LoopError) return error;
  const nested = 'Could not open backing file: '.repeat(opened.length) + error.message;
  const message = `Could not open '${filename}': ${nested}`;
  const above = opened.at(-1)?.layer;
  const name = above instanceof Qcow2Image ? above.header.backingFile : null;
  if (name === null || error.hint !== undefined || message.includes(name)) {
    return reworded(error, message);
  }
  // In a chain of ten these words alone do not help.
  const { code, errno } = error;
  return new ImageError(code, message, {
    cause: error,
    hint: `That is '${name}', the backing file of '${above?.filename}'.`,
    ...(errno !== undefined && { errno }),
  });
}

class LoopError extends ImageError {}

async function openLayers(
  filename: string,
  options: OpenChainOptions,
  layers: ChainLayer[],
): Promise<void> {
  let name = filename;
  let format = options.format;
  for (let depth = 0; ; depth++) {
    if (depth === MAX_DEPTH) {
      throw new ImageError('invalid', `The chain has more than ${MAX_DEPTH} layers`);
    }
    const above = layers.at(-1);
    const file = hostFileOf(above === undefined ? name : resolveName(above.filename, name));
    const id = (await options.host.identify(file))?.id;
    if (id !== undefined && layers.some((layer) => layer.id === id)) {
      throw new LoopError('invalid', `Backing file '${file}' creates an infinite loop.`);
    }
    const writable = depth === 0 && options.writable === true;
    const layer = await openLayer(file, format, writable, depth, options);
    const entry = { layer, filename: file, storedName: name, formatKnown: format !== undefined };
    layers.push({ ...entry, id: id ?? file });
    if (above !== undefined) above.layer.backing = layer;
    if (!(layer instanceof Qcow2Image) || layer.header.backingFile === null) return;
    if (options.single) return;
    name = layer.header.backingFile;
    format = layer.header.backingFormat ?? undefined;
  }
}

async function openLayer(
  file: string,
  format: string | undefined,
  writable: boolean,
  depth: number,
  options: OpenChainOptions,
): Promise<Layer> {
  if (format !== undefined) checkDriver(format);
  const { host, cache } = options;
  const storage = await host.openStorage(file, { writable, ...(cache && { cache }) });
  try {
    const { use, share } = options.forceShare ? EVERYTHING : writable ? WRITER : READER;
    if (!options.forceShare) await storage.lock(use, share);
    const found = format ?? (await probe(storage));
    checkDriver(found);
    if (found === 'raw') return new RawImage(storage);
    const image = await Qcow2Image.open(storage, {
      codecs: host.codecs,
      cacheBytes: options.cacheBytes ?? Math.min(CACHE_PER_LAYER, CACHE_TOTAL / (depth + 1)),
    });
    if (writable && image.corrupt) {
      throw image.refusalToWrite({ dataUnchanged: true });
    }
    const feature = image.unsupportedForReading;
    if (feature !== null && !options.describe) {
      throw new ImageError('unsupported', `'${file}' uses ${feature}, which is not supported`);
    }
    return image;
  } catch (error) {
    await storage.close();
    throw error;
  }
}

async function probe(storage: Storage): Promise<string> {
  const start = new Uint8Array(Math.min(PROBE_BYTES, storage.size));
  await storage.read(0, start);
  return probeFormat(start);
}

function checkDriver(format: string): void {
  if (format === 'qcow2' || format === 'raw') return;
  if (FOREIGN.has(format)) {
    throw new ImageError('unsupported', `The format '${format}' is not supported`);
  }
  throw new ImageError('invalid', `Unknown driver '${format}'`);
}
