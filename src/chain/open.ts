// Opens a chain: the top by a name or a description, each layer below by what the one above it
// stores, or is told.

import { assert, ImageError, isMachineFault, reworded, UNTOUCHED, withState } from '../errors.ts';
import type { CacheMode, Host } from '../io/host.ts';
import type { FilePart } from '../io/permissions.ts';
import type { Storage } from '../io/storage.ts';
import type { JsonValue } from '../json/parser.ts';
import { inTableOrder } from '../json/printer.ts';
import type { Layer } from '../layer.ts';
import { whyBitmapsVoid } from '../qcow2/bitmap-directory.ts';
import type { Checking } from '../qcow2/header.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { RawImage } from '../raw/raw.ts';
import { whichLayer } from './advice.ts';
import {
  type BackingOptions,
  type BlockNode,
  type FormatNode,
  noSuchNode,
  type ParsedImage,
  parseFormat,
  parseImage,
  type Qcow2Node,
} from './blockdev.ts';
import { Chain, type ChainLayer } from './chain.ts';
import { checkDriver } from './drivers.ts';
import { resolveName } from './filename.ts';
import { checkL1Total } from './l1-total.ts';
import { LayerStorage } from './layer-storage.ts';
import { formatName, type NodeName, nameText } from './node-name.ts';
import { commonOf } from './node-options.ts';
import {
  inContext,
  leafOf,
  type NodeContext,
  type OpenedNode,
  openNode,
  partOf,
  sliceOf,
} from './open-node.ts';
import { FileBelowError, finish, lock, openQcow2 } from './open-qcow2.ts';
import { OptionDict } from './option-dict.ts';
import { PROBE_BYTES, probeFormat } from './probe.ts';
import type { Secrets } from './secrets.ts';

export type OnWarning = (message: string, advice: string) => void;

export interface OpenChainOptions {
  readonly host: Host;
  /** Format of the top; probed from its content without it. */
  readonly format?: string;
  /** Opens the top for writing; the layers below stay read-only. Default false. */
  readonly writable?: boolean;
  readonly cache?: CacheMode;
  /** Keeps nobody out; for reading only. */
  readonly forceShare?: boolean;
  /** Opens the top alone. */
  readonly single?: boolean;
  /** Also opens images that can only be described; reading their data then fails. */
  readonly describe?: boolean;
  /**
   * Opens the top to be checked: it may lack a refcount table, or have a broken snapshot table. To
   * be repaired, it may be marked corrupt, too.
   */
  readonly checking?: Checking;
  /** Passphrases by the names that `encrypt.key-secret` gives them. */
  readonly secrets?: Secrets;
  /** Opens encrypted images without their keys, for their maps and headers. Default: as `describe`. */
  readonly locked?: boolean;
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
    const told = describe(error, first.storedName, layers);
    throw isMachineFault(error) ? withState(told, UNTOUCHED) : told;
  }
}

/** The words of the layers above: each one says that its backing file could not be opened. */
function describe(error: unknown, filename: string, opened: readonly ChainLayer[]): unknown {
  if (!(error instanceof ImageError) || error instanceof LoopError) return error;
  const message = `Could not open '${filename}': ${ownWords(error, opened)}`;
  const above = opened.at(-1)?.layer;
  const name = above instanceof Qcow2Image ? above.header.backingFile : null;
  if (name === null || error.hint !== undefined || message.includes(name)) {
    return reworded(error, message);
  }
  // In a chain of ten these words alone do not help.
  const { code, errno } = error;
  return new ImageError(code, message, {
    cause: error,
    hint: whichLayer(name, above?.filename),
    ...(errno !== undefined && { errno }),
  });
}

function ownWords(error: ImageError, opened: readonly ChainLayer[]): string {
  const own = error instanceof FileBelowError ? Math.max(0, opened.length - 1) : opened.length;
  const depth = error instanceof OwnError ? error.depth : own;
  return 'Could not open backing file: '.repeat(depth) + error.message;
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
type Next =
  | NamedNext
  | {
      readonly parsed: ParsedImage;
      readonly filename?: undefined;
      readonly storedName: string | undefined;
      readonly named?: undefined;
    };

interface NamedNext {
  readonly filename: string | undefined;
  /** The name in a header that made it so. */
  readonly named?: string | undefined;
  readonly options: OptionDict;
  /** Undefined: the name that it turns out to have. */
  readonly storedName: string | undefined;
}

function firstOf(
  target: ChainTarget,
  { format, label }: OpenChainOptions,
): NamedNext & { readonly storedName: string } {
  const driver: [string, string][] = format === undefined ? [] : [['driver', format]];
  if (typeof target === 'string') {
    return { filename: target, options: new OptionDict(driver), storedName: label ?? target };
  }
  const given = target instanceof OptionDict ? target : OptionDict.fromObject(target);
  const storedName = label ?? `json:${JSON.stringify(target)}`;
  return { filename: undefined, options: new OptionDict(driver).joined(given), storedName };
}

/** Returns the name of the first. */
async function openLayers(
  first: Next,
  options: OpenChainOptions,
  layers: ChainLayer[],
): Promise<NodeName> {
  let next: Next | undefined = first;
  let topName: NodeName | undefined;
  const left: (() => void)[] = [];
  for (let depth = 0; next !== undefined; depth++) {
    options.signal?.throwIfAborted();
    if (depth === MAX_DEPTH) {
      throw new ImageError('invalid', `The chain has more than ${MAX_DEPTH} layers`);
    }
    const parsed: ParsedImage =
      'parsed' in next ? next.parsed : parseImage(next.filename, next.options);
    const { file, id } = await identify(parsed, depth, layers, options.host);
    const writable = depth === 0 && options.writable === true;
    const opened = await openLayer(parsed, { ...options, writable, depth });
    const { layer, known } = opened;
    topName ??= opened.name;
    const name = nameText(opened.name);
    const filename = file ?? name;
    const fileName = fileNameOf(opened, filename);
    const entry = { layer, filename, name, fileName, formatKnown: known, id };
    if (options.onWarning) warn(layer, options.onWarning);
    const above = layers.at(-1);
    layers.push({ ...entry, storedName: next.storedName ?? name });
    checkL1Total(layers.map((each) => each.layer));
    if (above !== undefined) above.layer.backing = layer;
    if (layer instanceof Qcow2Image) layer.standsAlone = parsed.backing.none;
    left.push(() => checkNothingLeft(opened, parsed.backing, depth, options.single === true));
    next = options.single ? undefined : backingOf(layer, entry.filename, parsed.backing, depth);
    if (next?.named !== undefined) {
      await options.host.checkNamed?.(next.named, next.filename ?? next.named);
    }
  }
  // From the bottom up, as each layer comes to it when those below are open.
  for (const check of left.reverse()) check();
  assert(topName !== undefined, 'a chain without layers');
  return topName;
}

/** Raw images are looked through, and filters over files: what has the bytes of an image is named. */
function fileNameOf({ layer, below }: OpenedLayer, filename: string): string {
  if (layer instanceof RawImage) return layer.source.image?.fileName ?? filename;
  return nameText(below);
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
    named: stored ?? undefined,
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

/** What a header says comes into play. */
const NO_BACKING: BackingOptions = {
  none: false,
  reference: undefined,
  options: new OptionDict(),
};

interface ChainContext extends OpenChainOptions {
  readonly writable: boolean;
  readonly depth: number;
}

interface OpenedLayer {
  readonly layer: Layer;
  readonly node: BlockNode;
  readonly name: NodeName;
  /** Of what it stands on. */
  readonly below: NodeName;
  /** The format was not guessed. */
  readonly known: boolean;
}

async function openLayer({ node }: ParsedImage, context: ChainContext): Promise<OpenedLayer> {
  const { host, writable, cache = 'writeback', forceShare = false } = context;
  const { secrets } = context;
  const above: NodeContext = { host, writable, cache, forceShare, secrets, openImage };
  if (node.driver === undefined) {
    const own = inContext(commonOf(node.options), above);
    const file = await openNode(node.file, own);
    return await finish(file.storage, async () => {
      // What is locked, and for what, depends on the format. One that lies is found out afterwards.
      const format = await probe(file.storage);
      checkDriver(format);
      const found = parseFormat(format, node.file, node.options);
      await lock(file.storage, partOfFormat(found), { ...context, forceShare: own.forceShare });
      return { ...(await openFormat(found, file, context, above)), known: false };
    });
  }
  const own = inContext(node.common, above);
  const isFormat = node.driver === 'raw' || node.driver === 'qcow2';
  const below = await openNode(isFormat ? node.file : node, isFormat ? own : above);
  return await finish(below.storage, async () => {
    const part = isFormat ? partOfFormat(node) : 'raw';
    await lock(below.storage, part, { ...context, forceShare: isShared(node, context) });
    if (isFormat) return await openFormat(node, below, context, above);
    const layer = new RawImage(below.storage, below.driver, below.source);
    const { name } = below;
    return { layer, node: { ...node, unknown: undefined }, name, below: name, known: true };
  });
}

function partOfFormat({ driver }: FormatNode): FilePart {
  return driver === 'raw' ? 'raw' : 'image';
}

function isShared({ common }: BlockNode, { forceShare = false }: ChainContext): boolean {
  return forceShare || common.forceShare;
}

async function openFormat(
  node: FormatNode,
  below: OpenedNode,
  context: ChainContext,
  nodes: NodeContext,
): Promise<OpenedLayer> {
  const name = formatName(node, below.name);
  if (node.driver === 'raw') {
    const slice = sliceOf(node, below.storage);
    const layer = new RawImage(slice, 'raw', partOf(node, below.source));
    return { layer, node, name, below: below.name, known: true };
  }
  const layer = await openQcow2(node, below.storage, context, nodes);
  return { layer, node, name, below: below.name, known: true };
}

/** An image that another one, or a filter, stands on: the top of a chain of its own. */
async function openImage(
  node: Qcow2Node,
  { host, writable, cache, forceShare, secrets }: NodeContext,
): Promise<OpenedNode> {
  const { backing = NO_BACKING } = node;
  const layers: ChainLayer[] = [];
  const next = { parsed: { node, backing }, storedName: undefined };
  const closeAll = async () => {
    await new Chain(layers, host).close();
  };
  let name: NodeName;
  try {
    const keys = secrets !== undefined && { secrets };
    name = await openLayers(next, { host, writable, cache, forceShare, ...keys }, layers);
  } catch (error) {
    await closeAll().catch(() => undefined);
    throw error instanceof ImageError ? reworded(error, ownWords(error, layers)) : error;
  }
  const [{ layer: top, fileName }] = layers as [ChainLayer];
  const storage = new LayerStorage(top, closeAll);
  if (writable) {
    await storage.checkWritable().catch(async (error: unknown) => {
      await closeAll().catch(() => undefined);
      throw error;
    });
  }
  const extents: Layer['extents'] = (offset, length) => storage.extents(offset, length);
  const source = { offset: 0, image: { top, extents, fileName } };
  return { storage, name, driver: 'qcow2', source };
}

async function probe(storage: Storage): Promise<string> {
  const start = new Uint8Array(Math.min(PROBE_BYTES, storage.size));
  await storage.read(0, start);
  return probeFormat(start);
}
