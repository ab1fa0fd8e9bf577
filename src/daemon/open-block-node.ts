// Opens a node by its options, and what they describe below it: children by reference to nodes that
// are there, or by options of their own; backing files by the header's word where nothing is said.

import {
  type BackingOptions,
  type DebugNode,
  type FormatNode,
  type BlockNode as NodeOptions,
  parseDebugOver,
  parseFile,
  parseFormat,
  type Qcow2Node,
  takeBacking,
  withJson,
} from '../chain/blockdev.ts';
import { checkDriver, isProtocol } from '../chain/drivers.ts';
import { resolveName } from '../chain/filename.ts';
import { checkL1Total } from '../chain/l1-total.ts';
import { LayerStorage } from '../chain/layer-storage.ts';
import { debugName, formatName } from '../chain/node-name.ts';
import { MAX_DEPTH } from '../chain/open.ts';
import {
  leafOf,
  type NodeContext,
  openNode,
  partOf,
  rulesOf,
  sliceOf,
} from '../chain/open-node.ts';
import { openQcow2 } from '../chain/open-qcow2.ts';
import type { OptionDict } from '../chain/option-dict.ts';
import { PROBE_BYTES, probeFormat } from '../chain/probe.ts';
import { ImageError, reworded } from '../errors.ts';
import { BlkdebugStorage } from '../io/blkdebug.ts';
import type { Layer, LayerFormat } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { RawImage } from '../raw/raw.ts';
import { DaemonError } from './daemon-error.ts';
import type { Graph } from './graph.ts';
import type { GraphChanges } from './graph-changes.ts';
import { BlockNode, type NodeParts, type NodeSettings } from './node.ts';
import { AT_THE_TOP, forBacking, forFile, type Inherited, settingsOf } from './node-settings.ts';
import { NodeStorage } from './node-storage.ts';

/** A node by options, by a name, or both. */
export interface Described {
  readonly options: OptionDict;
  readonly filename?: string | undefined;
}

interface Place {
  readonly inherited: Inherited;
  /** The host's files above it: one that comes again leads nowhere. */
  readonly above: readonly string[];
  /** As the node above has it in its header. */
  readonly storedName?: string | undefined;
}

/** Opens and enters it, and what is below. The caller attaches whoever it is for, or closes it. */
export function openBlockNode(
  described: Described,
  graph: Graph,
  changes: GraphChanges,
): Promise<BlockNode> {
  return new Opening(graph, changes).open(described, { inherited: AT_THE_TOP, above: [] });
}

class Opening {
  readonly #graph: Graph;
  readonly #changes: GraphChanges;

  constructor(graph: Graph, changes: GraphChanges) {
    this.#graph = graph;
    this.#changes = changes;
  }

  /** `isFile`: it is what another one stands on, and without a driver it is a file. */
  async open(described: Described, place: Place, isFile = false): Promise<BlockNode> {
    const { name, options } = withJson(described.filename, described.options.copy());
    const settings = settingsOf(options, place.inherited, () => this.#graph.generateName());
    this.#graph.checkNewName(settings.name);
    const text = options.get('driver');
    const driver = typeof text === 'string' ? checkDriver(text) : undefined;
    if (driver === undefined ? isFile : isProtocol(driver) && driver !== 'blkdebug') {
      return await this.#openProtocol(parseFile(name, options), settings, place);
    }
    options.takeRaw('driver');
    return await this.#openOver(driver, name, options, settings, place);
  }

  async #openProtocol(
    parsed: NodeOptions,
    settings: NodeSettings,
    { storedName }: Place,
  ): Promise<BlockNode> {
    checkKnown(parsed.unknown);
    const hostFile = leafOf(parsed)?.filename;
    // Made writable when somebody writes.
    const writable = !settings.readOnly && !(hostFile !== undefined && settings.autoReadOnly);
    const opened = await openNode(parsed, this.#context(settings, writable));
    const node = new BlockNode(settings, opened.driver);
    const { storage, driver, name: exact, source } = opened;
    const layer = new RawImage(storage, driver, source);
    const options = parsed;
    node.opened({
      ...{ storage, layer, hostFile, exact, source, options },
      ...{ formatKnown: true, storedName },
    });
    try {
      this.#changes.enter(node);
    } catch (error) {
      await storage.close();
      throw error;
    }
    return node;
  }

  /** A format, or a filter, over what it stands on. */
  async #openOver(
    given: LayerFormat | undefined,
    name: string | undefined,
    options: OptionDict,
    settings: NodeSettings,
    place: Place,
  ): Promise<BlockNode> {
    const role = given === 'blkdebug' ? 'image' : 'file';
    const told = takeBacking(options);
    const child = await this.#openChild(role, options, name, settings, place);
    let node: BlockNode | undefined;
    try {
      const driver = given ?? checkDriver(await probe(child.layer));
      const about = { formatKnown: given !== undefined, storedName: place.storedName };
      const own = parseOver(driver, child.parts.options, options);
      node = new BlockNode(settings, driver);
      await this.#changes.connect(node, role, child);
      node.opened({ ...about, ...(await this.#partsOver(node, child, own)) });
      await this.#openBacking(node, told, place);
      this.#changes.enter(node);
      return node;
    } catch (error) {
      // The error that stopped us is the one to tell.
      if (node !== undefined) await this.#changes.close(node).catch(() => undefined);
      await this.#changes.closeUnused(child).catch(() => undefined);
      throw error;
    }
  }

  async #openChild(
    role: 'file' | 'image',
    options: OptionDict,
    filename: string | undefined,
    settings: NodeSettings,
    { above }: Place,
  ): Promise<BlockNode> {
    const reference = options.takeString(role);
    const own = options.takeBelow(`${role}.`);
    if (reference !== undefined) {
      if (own.size > 0 || filename !== undefined) {
        throw new DaemonError(
          'Cannot reference an existing block device with additional options or a new filename',
        );
      }
      return this.#graph.lookUp(reference, reference);
    }
    if (filename === undefined && own.size === 0) {
      throw new DaemonError(`Parameter '${role}' is missing`);
    }
    const inherited = forFile(settings);
    return await this.open({ options: own, filename }, { inherited, above }, true);
  }

  async #partsOver(
    { settings }: BlockNode,
    child: BlockNode,
    own: FormatNode | DebugNode,
  ): Promise<Omit<NodeParts, 'formatKnown' | 'storedName'>> {
    const below = new NodeStorage(child.parts.storage);
    const { source, hostFile, exact } = child.parts;
    if (own.driver === 'blkdebug') {
      const storage = new BlkdebugStorage(below, await rulesOf(own, this.#graph.host));
      const layer = new RawImage(storage, 'blkdebug', source);
      return { storage, layer, hostFile, exact: debugName(own, exact), source, options: own };
    }
    const shared = { hostFile, exact: formatName(own, exact), options: own };
    if (own.driver === 'raw') {
      const storage = sliceOf(own, below);
      const part = partOf(own, source);
      return { ...shared, storage, layer: new RawImage(storage, 'raw', part), source: part };
    }
    return { ...shared, ...(await this.#openImage(own, below, settings)) };
  }

  async #openImage(
    own: Qcow2Node,
    below: NodeStorage,
    settings: NodeSettings,
  ): Promise<Pick<NodeParts, 'storage' | 'layer' | 'source'>> {
    const { host, secrets, nodes } = this.#graph;
    const images = nodes.map(({ layer }) => layer).filter((layer) => layer instanceof Qcow2Image);
    const context = this.#context(settings, !settings.readOnly);
    const { writable, forceShare } = context;
    const about = { host, secrets, writable, forceShare, depth: images.length };
    const layer = await openQcow2(own, below, about, context);
    checkL1Total([...images, layer]);
    const storage = new LayerStorage(layer, async () => undefined);
    const extents: Layer['extents'] = (offset, length) => storage.extents(offset, length);
    const image = { top: layer, extents, fileName: below.filename };
    return { storage, layer, source: { offset: 0, image } };
  }

  /** By a reference, by options, or as the header says. */
  async #openBacking(node: BlockNode, told: BackingOptions, place: Place): Promise<void> {
    const { layer } = node;
    if (!(layer instanceof Qcow2Image)) {
      if (told.reference === undefined && told.options.size === 0) return;
      throw new DaemonError("Driver doesn't support backing files");
    }
    layer.standsAlone = told.none;
    if (told.none) return;
    let backing: BlockNode | undefined;
    try {
      backing = await this.#findBacking(node, layer, told, place);
      if (backing === undefined) return;
      await this.#changes.connect(node, 'backing', backing);
      layer.backing = backing.layer;
    } catch (error) {
      if (backing !== undefined) await this.#changes.closeUnused(backing).catch(() => undefined);
      throw below(error);
    }
  }

  async #findBacking(
    node: BlockNode,
    { header }: Qcow2Image,
    { reference, options: told }: BackingOptions,
    place: Place,
  ): Promise<BlockNode | undefined> {
    if (reference !== undefined) return this.#graph.lookUp(reference, reference);
    const options = told.copy();
    const { backingFile, backingFormat } = header;
    if (backingFile === null && options.size === 0) return undefined;
    const stored = options.has('file.filename') || options.has('file') ? null : backingFile;
    if (backingFormat !== null && !options.has('driver')) options.set('driver', backingFormat);
    const { hostFile = '' } = node.parts;
    const above = [...place.above, await this.#identityOf(hostFile)];
    if (above.length > MAX_DEPTH) {
      throw new DaemonError(`The chain has more than ${MAX_DEPTH} layers`);
    }
    const filename = stored === null ? undefined : resolveName(hostFile, stored);
    await this.#checkFollowed(filename, stored, above);
    const storedName = told.size > 0 ? undefined : (backingFile ?? undefined);
    const inherited = forBacking(node.settings);
    return await this.open({ options, filename }, { inherited, above, storedName });
  }

  async #checkFollowed(
    filename: string | undefined,
    stored: string | null,
    above: readonly string[],
  ): Promise<void> {
    if (filename === undefined || stored === null) return;
    await this.#graph.host.checkNamed?.(stored, filename);
    if (above.includes(await this.#identityOf(filename))) {
      throw new DaemonError(`Backing file '${filename}' creates an infinite loop.`);
    }
  }

  async #identityOf(filename: string): Promise<string> {
    return (await this.#graph.host.identify(filename))?.id ?? filename;
  }

  #context(settings: NodeSettings, writable: boolean): NodeContext {
    const { host, secrets } = this.#graph;
    const { cache, forceShare } = settings;
    const openImage = () => {
      throw new DaemonError('An image below a protocol is a node of its own');
    };
    return { host, secrets, writable, cache, forceShare, openImage };
  }
}

async function probe(layer: Layer): Promise<string> {
  const start = new Uint8Array(Math.min(PROBE_BYTES, layer.size));
  await layer.read(0, start);
  return probeFormat(start);
}

/** The options of a node over another one; none is left over. */
function parseOver(driver: string, file: NodeOptions, options: OptionDict): FormatNode | DebugNode {
  const own =
    driver === 'blkdebug' ? parseDebugOver(file, options) : parseFormat(driver, file, options);
  checkKnown(own.unknown);
  return own;
}

function checkKnown(unknown: string | undefined): void {
  if (unknown !== undefined) throw new DaemonError(`Parameter '${unknown}' is unexpected`);
}

/** Each node above says that its backing file could not be opened. */
function below(error: unknown): unknown {
  const prefix = 'Could not open backing file: ';
  if (error instanceof ImageError) return reworded(error, prefix + error.message);
  if (error instanceof DaemonError) {
    return new DaemonError(prefix + error.message, error.errorClass, error);
  }
  return error;
}
