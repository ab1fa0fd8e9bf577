// Opens the bytes that a node describes: a file, and the filters that stand on it.

import { ImageError, strerror } from '../errors.ts';
import { BlkdebugStorage, type DebugRule } from '../io/blkdebug.ts';
import type { CacheMode, Host } from '../io/host.ts';
import { NullStorage } from '../io/null.ts';
import { SliceStorage } from '../io/slice.ts';
import type { Storage } from '../io/storage.ts';
import type { LayerFormat } from '../layer.ts';
import { type RawSource, WHOLE_FILE } from '../raw/raw.ts';
import { SECTOR } from '../units.ts';
import type {
  BlockNode,
  CommonOptions,
  DebugNode,
  FileNode,
  NbdNode,
  NullNode,
  Qcow2Node,
  RawNode,
} from './blockdev.ts';
import { parseRules } from './debug-rules.ts';
import { debugName, fileName, formatName, type NodeName, nbdName, nullName } from './node-name.ts';
import type { Secrets } from './secrets.ts';

export interface NodeContext {
  readonly host: Host;
  readonly writable: boolean;
  readonly cache: CacheMode;
  readonly forceShare: boolean;
  /** Passphrases of encrypted images. */
  readonly secrets: Secrets | undefined;
  /** Opens an image that is the file of another one, with all that is below it, and takes locks. */
  openImage(node: Qcow2Node, context: NodeContext): Promise<OpenedNode>;
}

export interface OpenedNode {
  readonly storage: Storage;
  readonly name: NodeName;
  readonly driver: LayerFormat;
  readonly source: RawSource;
}

const invalid = (message: string) => new ImageError('invalid', message);

/** The file at the bottom; null where there is none, on this machine. */
export function leafOf(node: BlockNode): FileNode | null {
  if (node.driver === 'null-co' || node.driver === 'nbd') return null;
  if (node.driver === 'blkdebug') return leafOf(node.image);
  return node.driver === 'raw' || node.driver === 'qcow2' ? leafOf(node.file) : node;
}

/** Opens what `node` stands for. The caller closes the storage. Takes no locks. */
export async function openNode(node: BlockNode, above: NodeContext): Promise<OpenedNode> {
  const context = inContext(node.common, above);
  const opened = await openByDriver(node, context);
  try {
    if (node.unknown !== undefined) {
      throw invalid(
        node.driver === 'raw' || node.driver === 'qcow2'
          ? `Block format '${node.driver}' does not support the option '${node.unknown}'`
          : `Block protocol '${opened.driver}' doesn't support the option '${node.unknown}'`,
      );
    }
    return opened;
  } catch (error) {
    await opened.storage.close();
    throw error;
  }
}

/** What the options of a node change for it and those below. Throws where it must not be written. */
export function inContext(common: CommonOptions, above: NodeContext): NodeContext {
  if (above.writable && common.readOnly) {
    throw new ImageError('read-only', 'Block node is read-only');
  }
  if (above.writable && common.forceShare) {
    throw invalid('force-share=on can only be used with read-only images');
  }
  const forceShare = above.forceShare || common.forceShare;
  return { ...above, forceShare, cache: cacheMode(above.cache, common) };
}

function cacheMode(mode: CacheMode, { direct, noFlush }: CommonOptions): CacheMode {
  const through = mode === 'writethrough' || mode === 'directsync';
  const unsafe = noFlush ?? mode === 'unsafe';
  if (unsafe) return 'unsafe';
  const around = direct ?? (mode === 'none' || mode === 'directsync');
  if (around) return through ? 'directsync' : 'none';
  return through ? 'writethrough' : 'writeback';
}

function openByDriver(node: BlockNode, context: NodeContext): Promise<OpenedNode> {
  if (node.driver === 'null-co') return openNull(node, context);
  if (node.driver === 'blkdebug') return openDebug(node, context);
  if (node.driver === 'nbd') return openExport(node, context);
  if (node.driver === 'raw') return openRaw(node, context);
  if (node.driver === 'qcow2') return context.openImage(node, context);
  return openFile(node, context);
}

async function openFile(node: FileNode, context: NodeContext): Promise<OpenedNode> {
  const { filename, locking } = node;
  const kind = (await context.host.identify(filename))?.kind;
  const isDevice = kind === 'block-device' || kind === 'character-device';
  const driver = node.driver ?? (isDevice ? 'host_device' : 'file');
  if (driver === 'file' && isDevice) {
    throw invalid(`'file' driver requires '${filename}' to be a regular file`);
  }
  if (driver === 'host_device' && kind !== undefined && !isDevice) {
    throw invalid(
      `'host_device' driver requires '${filename}' to be either a character or block device`,
    );
  }
  const { host, writable, cache } = context;
  const options = { writable, cache, ...(!locking && { locking }) };
  const storage = await host.openStorage(filename, options);
  if (writable && !storage.writable) {
    await storage.close();
    throw new ImageError('read-only', `'${storage.filename}' is open for reading only`);
  }
  return { storage, name: fileName(driver, filename), driver, source: WHOLE_FILE };
}

async function openNull(node: NullNode, { host, writable }: NodeContext): Promise<OpenedNode> {
  const { size, readZeroes, latencyNs } = node;
  const delay = latencyNs > 0 ? () => host.sleep(latencyNs / 1e6) : undefined;
  const storage = new NullStorage({ size, readZeroes, writable, delay });
  return { storage, name: nullName(node), driver: 'null-co', source: WHOLE_FILE };
}

async function openExport(node: NbdNode, { host, writable }: NodeContext): Promise<OpenedNode> {
  const { target } = node;
  if (host.openNbd === undefined) {
    throw new ImageError('unsupported', "Unknown protocol 'nbd'");
  }
  const storage = await host.openNbd(target, { writable });
  return { storage, name: nbdName(node), driver: 'nbd', source: WHOLE_FILE };
}

async function openDebug(node: DebugNode, context: NodeContext): Promise<OpenedNode> {
  const rules = await rulesOf(node, context.host);
  const { storage, name, source } = await openNode(node.image, context);
  return {
    storage: new BlkdebugStorage(storage, rules),
    name: debugName(node, name),
    driver: 'blkdebug',
    source,
  };
}

/** Those of its file, and its own. */
export async function rulesOf(
  { config, rules }: DebugNode,
  host: Host,
): Promise<readonly DebugRule[]> {
  return [...(config === undefined ? [] : await readRules(config, host)), ...rules];
}

/** Longer configurations are a mistake. */
const MAX_CONFIG = 1024 * 1024;

async function readRules(filename: string, host: Host): Promise<readonly DebugRule[]> {
  let text: string;
  try {
    const storage = await host.openStorage(filename, { writable: false });
    try {
      const bytes = new Uint8Array(Math.min(storage.size, MAX_CONFIG));
      await storage.read(0, bytes);
      text = new TextDecoder().decode(bytes);
    } finally {
      await storage.close();
    }
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    if ((await host.identify(filename))?.kind === 'directory') {
      throw invalid('Cannot read config file: Is a directory');
    }
    const reason = error.errno === undefined ? error.message : strerror(error.errno);
    throw new ImageError(error.code, `Could not read blkdebug config file: ${reason}`);
  }
  return parseRules(text);
}

async function openRaw(node: RawNode, context: NodeContext): Promise<OpenedNode> {
  const { storage, name, source } = await openNode(node.file, context);
  try {
    const slice = sliceOf(node, storage);
    const part = partOf(node, source);
    return { storage: slice, name: formatName(node, name), driver: 'raw', source: part };
  } catch (error) {
    await storage.close();
    throw error;
  }
}

export function partOf({ offset }: RawNode, source: RawSource): RawSource {
  return { ...source, offset: source.offset + offset };
}

/** The part of its file that a raw node is; the file itself where that is all of it. */
export function sliceOf({ offset, size }: RawNode, storage: Storage): Storage {
  if (offset > storage.size) {
    throw invalid(
      `Offset (${offset}) cannot be greater than size of the containing file (${storage.size})`,
    );
  }
  if (size !== undefined && offset + size > storage.size) {
    throw invalid(
      `The sum of offset (${offset}) and size (${size}) has to be smaller or equal to the  ` +
        `actual size of the containing file (${storage.size})`,
    );
  }
  if (size !== undefined && size % SECTOR !== 0) {
    throw invalid('Specified size is not multiple of 512');
  }
  return offset === 0 && size === undefined ? storage : new SliceStorage(storage, offset, size);
}
