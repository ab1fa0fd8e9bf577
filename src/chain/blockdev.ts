// Descriptions of images: which driver stands on which, with which options. What `json:{...}` names,
// `--image-opts` and the library's objects say becomes one tree of nodes here. Opens nothing.

import { ImageError } from '../errors.ts';
import type { DebugRule } from '../io/blkdebug.ts';
import type { NbdTarget } from '../io/host.ts';
import { type JsonValue, parseJson } from '../json/parser.ts';
import type { StructureKind } from '../qcow2/overlap.ts';
import { GIB } from '../units.ts';
import { takeRules } from './debug-rules.ts';
import { checkDriver, type Format, isProtocol, type Protocol } from './drivers.ts';
import { hostFileOf, protocolOf, withoutProtocol } from './filename.ts';
import { isNbdName, parseNbd } from './nbd-options.ts';
import { type EncryptOptions, takeCommon, takeQcow2Options } from './node-options.ts';
import { OptionDict } from './option-dict.ts';

/** What any node may have. */
export interface CommonOptions {
  readonly readOnly: boolean;
  readonly forceShare: boolean;
  /** Undefined: as the node above. */
  readonly direct: boolean | undefined;
  readonly noFlush: boolean | undefined;
}

export interface NodeParts {
  readonly common: CommonOptions;
  /** Options that make it another node than its file name alone would, as they were given. */
  readonly strong: ReadonlyMap<string, JsonValue>;
  /** What nobody knows, by its first name. Said once all else has been found right. */
  readonly unknown: string | undefined;
}

export interface FileNode extends NodeParts {
  /** Null: whichever fits the file. */
  readonly driver: 'file' | 'host_device' | null;
  readonly filename: string;
  readonly locking: boolean;
}

export interface NullNode extends NodeParts {
  readonly driver: 'null-co';
  readonly size: number;
  readonly readZeroes: boolean;
  readonly latencyNs: number;
}

export interface DebugNode extends NodeParts {
  readonly driver: 'blkdebug';
  readonly image: BlockNode;
  /** Name of a file with further rules. */
  readonly config: string | undefined;
  readonly rules: readonly DebugRule[];
}

export interface NbdNode extends NodeParts {
  readonly driver: 'nbd';
  /** Its name is the one that means the same. */
  readonly target: NbdTarget;
}

export interface RawNode extends NodeParts {
  readonly driver: 'raw';
  readonly file: BlockNode;
  readonly offset: number;
  readonly size: number | undefined;
}

export interface Qcow2Node extends NodeParts {
  readonly driver: 'qcow2';
  readonly file: BlockNode;
  /** Of one that is the file of another: its own chain. Undefined at the top of an image. */
  readonly backing?: BackingOptions;
  readonly cacheBytes: number | undefined;
  readonly cacheEntryBytes: number | undefined;
  /** Structures that nothing else is written over. */
  readonly guarded: ReadonlySet<StructureKind>;
  readonly encrypt: EncryptOptions;
  /** Said to be the external data file, whatever the header says. */
  readonly dataFile: BlockNode | undefined;
}

export type FormatNode = RawNode | Qcow2Node;
/** What gives bytes; a raw image can be the file of another one. */
export type BlockNode = FileNode | NullNode | DebugNode | NbdNode | FormatNode;

/** An image whose format its content has to tell. */
export interface UnprobedNode {
  readonly driver: undefined;
  readonly file: BlockNode;
  readonly options: OptionDict;
}

/** What an image says, or is told, about the one below it. */
export interface BackingOptions {
  /** There is none, whatever the header says. */
  readonly none: boolean;
  /** Name of a node that would have to be known already. */
  readonly reference: string | undefined;
  readonly options: OptionDict;
}

export interface ParsedImage {
  readonly node: BlockNode | UnprobedNode;
  readonly backing: BackingOptions;
}

const invalid = (message: string) => new ImageError('invalid', message);

/**
 * The image that `filename` and `options` mean together: a name alone, options alone, or a backing
 * file's name with options that go with it. Throws `invalid` and `unsupported`.
 */
export function parseImage(filename: string | undefined, given: OptionDict): ParsedImage {
  const { name, options } = withJson(filename, given.copy());
  const driver = takeDriver(options);
  if (driver !== undefined && isProtocol(driver)) {
    const backing = noBacking(options);
    return { node: parseProtocol(driver, name, options), backing };
  }
  const backing = takeBacking(options);
  const file = takeChild(options, 'file', name);
  if (driver !== undefined) {
    if (file === undefined) throw invalid('A block device must be specified for "file"');
    return { node: parseFormat(driver, file, options), backing };
  }
  if (file === undefined) throw invalid('Must specify either driver or file');
  return { node: { driver: undefined, file, options }, backing };
}

/** The node above `file`, now that its format is known. `options` are used up. */
export function parseFormat(driver: string, file: BlockNode, options: OptionDict): FormatNode {
  const found = checkDriver(driver);
  if (found === 'raw') return parseRaw(file, options);
  if (found === 'qcow2') return parseQcow2(file, options);
  throw invalid(`Unknown driver '${driver}'`);
}

/** What a `json:` name says joins the options, which win. */
export function withJson(
  filename: string | undefined,
  options: OptionDict,
): { readonly name: string | undefined; readonly options: OptionDict } {
  if (filename === undefined || protocolOf(filename) !== 'json') return { name: filename, options };
  let value: JsonValue;
  try {
    value = parseJson(filename.slice('json:'.length));
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    throw invalid(`Could not parse the JSON options: ${error.message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid('Invalid JSON object given');
  }
  const object = value as { readonly [key: string]: JsonValue };
  return { name: undefined, options: options.joined(OptionDict.fromObject(object)) };
}

function takeDriver(options: OptionDict): Format | Protocol | undefined {
  const name = options.takeString('driver');
  options.takeRaw('driver');
  return name === undefined ? undefined : checkDriver(name);
}

export function takeBacking(options: OptionDict): BackingOptions {
  const value = options.get('backing');
  const none = value === null || value === '';
  const isEmpty = typeof value === 'object';
  const reference = none ? undefined : options.takeString('backing');
  if (none || isEmpty) options.takeRaw('backing');
  return { none, reference, options: options.takeBelow('backing.') };
}

/** A protocol knows no backing file: what is said about one is left to be found unknown. */
function noBacking(options: OptionDict): BackingOptions {
  if (options.get('backing') === null) options.takeRaw('backing');
  return { none: true, reference: undefined, options: new OptionDict() };
}

/** The node of the child `role`; undefined where nothing is said about it. */
function takeChild(
  options: OptionDict,
  role: string,
  filename: string | undefined,
): BlockNode | undefined {
  const reference = options.takeString(role);
  const own = options.takeBelow(`${role}.`);
  if (reference !== undefined) {
    if (own.size > 0 || filename !== undefined) {
      throw invalid(
        'Cannot reference an existing block device with additional options or a new filename',
      );
    }
    throw noSuchNode(reference);
  }
  if (filename === undefined && own.size === 0) return undefined;
  return parseFile(filename, own);
}

export function noSuchNode(name: string): ImageError {
  return invalid(`Cannot find device='${name}' nor node-name='${name}'`);
}

/** What stands below a format or a filter: bytes, by a name or by options. */
export function parseFile(filename: string | undefined, given: OptionDict): BlockNode {
  const { name, options } = withJson(filename, given);
  const driver = takeDriver(options);
  if (driver === undefined) {
    if (name !== undefined && options.has('filename')) throw twoNames();
    const own = name ?? options.get('filename');
    if (typeof own !== 'string') throw invalid('Must specify either driver or file');
    if (name === undefined) return parseProtocol(null, undefined, options);
    return parseProtocol(protocolFor(name), name, options);
  }
  if (isProtocol(driver)) return parseProtocol(driver, name, options);
  const backing = driver === 'qcow2' ? { backing: takeBacking(options) } : {};
  const file = takeChild(options, 'file', name);
  if (file === undefined) throw invalid('A block device must be specified for "file"');
  return { ...parseFormat(driver, file, options), ...backing };
}

const twoNames = () => invalid("Can't specify 'file' and 'filename' options at the same time");

/** Which driver a name asks for by its prefix; null: a file. */
function protocolFor(name: string): Protocol | null {
  const protocol = protocolOf(name);
  if (protocol === null) return null;
  if (protocol === 'file' || protocol === 'blkdebug' || protocol === 'null-co') return protocol;
  if (protocol === 'host_device') return protocol;
  if (isNbdName(name)) return 'nbd';
  throw new ImageError('unsupported', `Unknown protocol '${protocol}'`);
}

function parseProtocol(
  driver: Protocol | null,
  filename: string | undefined,
  options: OptionDict,
): BlockNode {
  if (filename !== undefined && options.has('filename')) throw twoNames();
  if (driver === 'null-co') return parseNull(filename, options);
  if (driver === 'blkdebug') return parseDebug(filename, options);
  if (driver === 'nbd') return parseNbd(filename, options);
  return parseFileNode(driver, filename, options);
}

const LOCKING = ['auto', 'on', 'off'] as const;
const AIO = ['threads', 'native', 'io_uring'] as const;

/** A file by its plain name, as a header stores it. Throws `unsupported` for other protocols. */
export function plainFileNode(name: string): FileNode {
  return parseFileNode(null, `file:${hostFileOf(name)}`, new OptionDict());
}

function parseFileNode(
  driver: 'file' | 'host_device' | null,
  name: string | undefined,
  options: OptionDict,
): FileNode {
  const filename = name === undefined ? options.takeString('filename') : stripProtocol(name);
  const common = takeCommon(options);
  if (filename === undefined || filename === '') {
    throw invalid(`The '${driver ?? 'file'}' block driver requires a file name`);
  }
  const aio = options.takeOneOf('aio', AIO);
  if (aio === 'native' && common.direct !== true) {
    throw invalid(
      'aio=native was specified, but it requires cache.direct=on, which was not specified.',
    );
  }
  options.takeNumber('aio-max-batch');
  const locking = options.takeOneOf('locking', LOCKING) !== 'off';
  const manager = options.takeText('pr-manager');
  if (manager !== undefined)
    throw invalid(`No persistent reservation manager with id '${manager}'`);
  options.takeBool('drop-cache');
  options.takeBool('x-check-cache-dropped');
  const strong = new Map<string, JsonValue>([['filename', filename]]);
  // A name by itself was found by its form: a device is one then.
  const found = name !== undefined && driver === 'file' ? null : driver;
  return { driver: found, filename, locking, common, strong, unknown: options.keys()[0] };
}

function stripProtocol(name: string): string {
  const protocol = protocolOf(name);
  return protocol === 'file' || protocol === 'host_device' ? withoutProtocol(name) : name;
}

function parseNull(filename: string | undefined, options: OptionDict): NullNode {
  if (filename !== undefined && filename !== 'null-co://') {
    throw invalid("The only allowed filename for this driver is 'null-co://'");
  }
  const strong = strongOf(options, ['read-zeroes', 'size']);
  const common = takeCommon(options);
  const size = options.takeSize('size') ?? GIB;
  const latencyNs = options.takeNumber('latency-ns') ?? 0;
  if (latencyNs < 0) throw invalid('latency-ns is invalid');
  const readZeroes = options.takeBool('read-zeroes') ?? false;
  const unknown = options.keys()[0];
  return { driver: 'null-co', size, readZeroes, latencyNs, common, strong, unknown };
}

const LIMITS = [
  'align',
  'max-transfer',
  'opt-write-zero',
  'max-write-zero',
  'opt-discard',
  'max-discard',
] as const;

function parseDebug(filename: string | undefined, options: OptionDict): DebugNode {
  const named = filename === undefined ? undefined : splitDebugName(filename);
  if (named?.config !== undefined) options.set('config', named.config);
  const image = takeChild(options, 'image', named?.image ?? options.takeText('x-image'));
  if (image === undefined) throw invalid('A block device must be specified for "image"');
  return parseDebugOver(image, options);
}

/** The filter over `image`. `options` are used up. */
export function parseDebugOver(image: BlockNode, options: OptionDict): DebugNode {
  const strong = strongOf(options, ['config', 'inject-error.', 'set-state.', ...LIMITS]);
  const common = takeCommon(options);
  const config = options.takeText('config');
  const rules = takeRules(options);
  checkLimits(options);
  const unknown = options.keys()[0];
  return { driver: 'blkdebug', image, config, rules, common, strong, unknown };
}

/** `blkdebug:CONFIG:FILE`, where CONFIG may be empty; any other name is the image's own. */
function splitDebugName(filename: string): {
  readonly config: string | undefined;
  readonly image: string;
} {
  if (protocolOf(filename) !== 'blkdebug') return { config: undefined, image: filename };
  const rest = filename.slice('blkdebug:'.length);
  const at = rest.indexOf(':');
  if (at < 0) throw invalid('blkdebug requires both config file and image path');
  return { config: at === 0 ? undefined : rest.slice(0, at), image: rest.slice(at + 1) };
}

/** They bound requests; ours fit any. But they have to make sense. */
function checkLimits(options: OptionDict): void {
  let align = 1;
  for (const key of LIMITS) {
    const value = options.takeSize(key) ?? 0;
    const fits = key === 'align' ? Number.isInteger(Math.log2(value)) : value % align === 0;
    if (value !== 0 && (value >= 2 ** 31 - 1 || !fits)) {
      throw invalid(`Cannot meet constraints with ${key} ${value}`);
    }
    if (key === 'align') align = Math.max(1, value);
  }
}

function parseRaw(file: BlockNode, options: OptionDict): RawNode {
  const strong = strongOf(options, ['offset', 'size']);
  const common = takeCommon(options);
  const offset = options.takeSize('offset') ?? 0;
  const size = options.takeSize('size');
  return { driver: 'raw', file, offset, size, common, strong, unknown: options.keys()[0] };
}

function parseQcow2(file: BlockNode, options: OptionDict): Qcow2Node {
  const strong = strongOf(options, ['encrypt.key-secret']);
  const common = takeCommon(options);
  const own = takeQcow2Options(options);
  const dataFile = takeChild(options, 'data-file', undefined);
  return { driver: 'qcow2', file, ...own, dataFile, common, strong, unknown: options.keys()[0] };
}

/** A name that ends with a dot stands for all below it. */
function strongOf(options: OptionDict, names: readonly string[]): Map<string, JsonValue> {
  const matches = (key: string) =>
    names.some((name) => (name.endsWith('.') ? key.startsWith(name) : key === name));
  const keys = options.keys().filter(matches);
  return new Map(keys.map((key) => [key, options.get(key) ?? null]));
}
