// Opens a chain: the top by a name or a description, each layer below by what the one above it
// stores, or is told.

import { ImageError, reworded } from '../errors.ts';
import type { CacheMode, Host } from '../io/host.ts';
import type { Permission } from '../io/locks.ts';
import type { Storage } from '../io/storage.ts';
import type { Layer } from '../layer.ts';
import { whyBitmapsVoid } from '../qcow2/bitmap-directory.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { CRYPT_NONE } from '../qcow2/spec.ts';
import { RawImage } from '../raw/raw.ts';
import { MIB } from '../units.ts';
import {
  type BackingOptions,
  type BlockNode,
  checkDriver,
  type FormatNode,
  noSuchNode,
  type ParsedImage,
  parseFormat,
  parseImage,
  plainFileNode,
  type Qcow2Node,
} from './blockdev.ts';
import { Chain, type ChainLayer } from './chain.ts';
import { resolveName } from './filename.ts';
import { formatName, type NodeName, nameText } from './node-name.ts';
import { inContext, leafOf, type NodeContext, openNode, sliceOf } from './open-node.ts';
import { OptionDict } from './option-dict.ts';
import { PROBE_BYTES, probeFormat } from './probe.ts';
import { inTableOrder, type JsonValue } from './qemu-json.ts';

export type OnWarning = (message: string, advice: string) => void;

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
  /** Opens the top to be checked: it may lack a refcount table, or have a broken snapshot table. */
  readonly checking?: boolean;
  /** What messages call the image. Default: its name, or its description as one. */
  readonly label?: string;
  /** Hears of what an image has lost, and what to do about it; nothing keeps it from being opened. */
  readonly onWarning?: OnWarning;
  /** Bound for tables in memory, in bytes, for each layer. Default: shared by the whole chain. */
  readonly cacheBytes?: number;
  /** Looked at before each layer. */
  readonly signal?: AbortSignal;
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

/** What `json:{...}` holds. */
export type Description = { readonly [key: string]: JsonValue };

/** A name, or a description, whole or as options taken apart. */
export type ChainTarget = string | Description | OptionDict;

export async function openChain(target: ChainTarget, options: OpenChainOptions): Promise<Chain> {
  const layers: ChainLayer[] = [];
  const first = firstOf(target, options);
  try {
    await openLayers(first, options, layers);
    return new Chain(layers, options.host);
  } catch (error) {
    for (const { layer } of layers) await layer.close().catch(() => undefined);
    throw describe(error, first.storedName, layers);
  }
}

/** The words of the layers above: each one says that its backing file could not be opened. */
function describe(error: unknown, filename: string, opened: readonly ChainLayer[]): unknown {
  if (!(error instanceof ImageError) || error instanceof LoopError) return error;
  const depth = error instanceof OwnError ? error.depth : opened.length;
  const nested = 'Could not open backing file: '.repeat(depth) + error.message;
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

/** Of a layer that was opened, not of the one that was to come. */
class OwnError extends ImageError {
  readonly depth: number;
  constructor(depth: number, message: string) {
    super('invalid', message);
    this.depth = depth;
  }
}

/** What is known of a layer before it is opened. */
interface Next {
  readonly filename: string | undefined;
  readonly options: OptionDict;
  /** Undefined: the name that it turns out to have. */
  readonly storedName: string | undefined;
}

function firstOf(
  target: ChainTarget,
  { format, label }: OpenChainOptions,
): Next & { readonly storedName: string } {
  const driver: [string, string][] = format === undefined ? [] : [['driver', format]];
  if (typeof target === 'string') {
    return { filename: target, options: new OptionDict(driver), storedName: label ?? target };
  }
  const given = target instanceof OptionDict ? target : OptionDict.fromObject(target);
  const storedName = label ?? `json:${JSON.stringify(target)}`;
  return { filename: undefined, options: new OptionDict(driver).joined(given), storedName };
}

async function openLayers(
  first: Next,
  options: OpenChainOptions,
  layers: ChainLayer[],
): Promise<void> {
  let next: Next | undefined = first;
  const left: (() => void)[] = [];
  for (let depth = 0; next !== undefined; depth++) {
    options.signal?.throwIfAborted();
    if (depth === MAX_DEPTH) {
      throw new ImageError('invalid', `The chain has more than ${MAX_DEPTH} layers`);
    }
    const parsed = parseImage(next.filename, next.options);
    const { file, id } = await identify(parsed, depth, layers, options.host);
    const writable = depth === 0 && options.writable === true;
    const opened = await openLayer(parsed, { ...options, writable, depth });
    const { layer, known } = opened;
    const name = nameText(opened.name);
    const entry = { layer, filename: file ?? name, name, formatKnown: known, id };
    if (options.onWarning) warn(layer, options.onWarning);
    const above = layers.at(-1);
    layers.push({ ...entry, storedName: next.storedName ?? name });
    if (above !== undefined) above.layer.backing = layer;
    if (layer instanceof Qcow2Image) layer.standsAlone = parsed.backing.none;
    left.push(() => checkNothingLeft(opened, parsed.backing, depth, options.single === true));
    next = options.single ? undefined : backingOf(layer, entry.filename, parsed.backing, depth);
  }
  // From the bottom up, as each layer comes to it when those below are open.
  for (const check of left.reverse()) check();
}

function warn(layer: Layer, onWarning: OnWarning): void {
  const why = layer instanceof Qcow2Image ? whyBitmapsVoid(layer.header) : null;
  if (why === null) return;
  const advice = "Some clusters may be leaked, run 'qemu-img check -r' on the image file to fix.";
  onWarning(why, advice);
}

/** A file is part of a chain once. */
async function identify(
  { node }: ParsedImage,
  depth: number,
  layers: readonly ChainLayer[],
  host: Host,
): Promise<{ readonly file: string | undefined; readonly id: string }> {
  const file = leafOf(node.driver === undefined ? node.file : node)?.filename;
  const id = file === undefined ? undefined : (await host.identify(file))?.id;
  if (id !== undefined && layers.some((layer) => layer.id === id)) {
    throw new LoopError('invalid', `Backing file '${file}' creates an infinite loop.`);
  }
  return { file, id: id ?? file ?? `null ${depth}` };
}

/** The layer below, by what the header says of it and what is said in addition. */
function backingOf(
  layer: Layer,
  filename: string,
  told: BackingOptions,
  depth: number,
): Next | undefined {
  if (told.none) return undefined;
  if (told.reference !== undefined) throw noSuchNode(told.reference);
  const options = told.options.copy();
  const isTold = options.size > 0;
  if (!(layer instanceof Qcow2Image)) {
    if (isTold) throw new OwnError(depth, "Driver doesn't support backing files");
    return undefined;
  }
  const { backingFile, backingFormat } = layer.header;
  if (backingFile === null && !isTold) return undefined;
  const stored = options.has('file.filename') ? null : backingFile;
  if (backingFormat !== null && !options.has('driver')) options.set('driver', backingFormat);
  return {
    filename: stored === null ? undefined : resolveName(filename, stored),
    options,
    storedName: isTold ? undefined : (backingFile ?? undefined),
  };
}

/** Without a layer below, what was said about one is as unknown as any other option. */
function checkNothingLeft(
  { layer, node }: OpenedLayer,
  { reference, options }: BackingOptions,
  depth: number,
  single: boolean,
): void {
  const told = single ? options.keys().map((key) => `backing.${key}`) : [];
  if (single && reference !== undefined) told.push('backing');
  if (node.unknown !== undefined) told.push(node.unknown);
  const [first] = inTableOrder(told);
  if (first === undefined) return;
  throw new OwnError(
    depth,
    `Block format '${layer.format}' does not support the option '${first}'`,
  );
}

interface LayerContext extends OpenChainOptions {
  readonly writable: boolean;
  readonly depth: number;
}

interface OpenedLayer {
  readonly layer: Layer;
  readonly node: BlockNode;
  readonly name: NodeName;
  /** The format was not guessed. */
  readonly known: boolean;
}

async function openLayer({ node }: ParsedImage, context: LayerContext): Promise<OpenedLayer> {
  const { host, writable, cache = 'writeback' } = context;
  const above: NodeContext = { host, writable, cache };
  if (node.driver === undefined) {
    // Its common options are known once its driver is.
    const file = await openNode(node.file, above);
    return await finish(file.storage, async () => {
      await lock(file.storage, context);
      const format = await probe(file.storage);
      checkDriver(format);
      return await openFormat(parseFormat(format, node.file, node.options), file, context, false);
    });
  }
  const own = inContext(node.common, above);
  const isFormat = node.driver === 'raw' || node.driver === 'qcow2';
  const below = await openNode(isFormat ? node.file : node, isFormat ? own : above);
  return await finish(below.storage, async () => {
    await lock(below.storage, { ...context, forceShare: isShared(node, context) });
    if (isFormat) return await openFormat(node, below, context, true);
    const layer = new RawImage(below.storage, below.driver);
    return { layer, node: { ...node, unknown: undefined }, name: below.name, known: true };
  });
}

async function finish<T>(storage: Storage, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    await storage.close();
    throw error;
  }
}

function isShared({ common }: BlockNode, { forceShare = false }: LayerContext): boolean {
  return forceShare || common.forceShare;
}

async function lock(storage: Storage, { forceShare, writable }: LayerContext): Promise<void> {
  if (forceShare) return;
  const { use, share } = writable ? WRITER : READER;
  await storage.lock(use, share);
}

async function openFormat(
  node: FormatNode,
  below: { readonly storage: Storage; readonly name: NodeName },
  context: LayerContext,
  known: boolean,
): Promise<OpenedLayer> {
  const name = formatName(node, below.name);
  if (node.driver === 'raw') {
    return { layer: new RawImage(sliceOf(node, below.storage)), node, name, known };
  }
  return { layer: await openQcow2(node, below.storage, context), node, name, known };
}

async function openQcow2(
  node: Qcow2Node,
  storage: Storage,
  context: LayerContext,
): Promise<Qcow2Image> {
  const { host, depth, writable, describe, checking, cacheBytes = CACHE_PER_LAYER } = context;
  const image = await Qcow2Image.open(storage, {
    codecs: host.codecs,
    openDataFile: (name) => openDataFile(node, storage.filename, name, context),
    describe,
    checking: checking === true && depth === 0,
    cacheBytes: Math.min(CACHE_PER_LAYER, CACHE_TOTAL / (depth + 1), node.cacheBytes ?? cacheBytes),
  });
  if (node.encryptFormat !== undefined && image.header.cryptMethod === CRYPT_NONE) {
    throw new ImageError(
      'invalid',
      `No encryption in image header, but options specified format '${node.encryptFormat}'`,
    );
  }
  if (writable && image.corrupt) {
    throw image.refusalToWrite({ dataUnchanged: true });
  }
  if (node.dataFile !== undefined && !image.geometry.externalData) {
    throw new ImageError(
      'invalid',
      "'data-file' can only be set for images with an external data file",
    );
  }
  const refusal = image.refusalToRead;
  if (refusal !== null && !describe) throw refusal;
  return image;
}

/** The external data file: as told, or else by the name in the header, seen from the image. */
async function openDataFile(
  { dataFile }: Qcow2Node,
  image: string,
  name: string | null,
  context: LayerContext,
): Promise<Storage> {
  if (dataFile === undefined && name === null) {
    throw new ImageError('invalid', "'data-file' is required for this image");
  }
  const node = dataFile ?? plainFileNode(resolveName(image, name ?? ''));
  const { storage } = await openNode(node, { cache: 'writeback', ...context });
  return await finish(storage, async () => {
    await lock(storage, context);
    return storage;
  });
}

async function probe(storage: Storage): Promise<string> {
  const start = new Uint8Array(Math.min(PROBE_BYTES, storage.size));
  await storage.read(0, start);
  return probeFormat(start);
}
