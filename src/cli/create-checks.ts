// From the -o options of `create` to the image that they describe. What makes no sense is refused in
// the order in which QEMU looks at it: words first, then what they mean together, the size last.

import { isDriverOfQemu } from '../chain/drivers.ts';
import type { Secrets } from '../chain/secrets.ts';
import { ImageError } from '../errors.ts';
import { type CreateOptions, checkCreateOptions } from '../qcow2/create.ts';
import { geometryOf, l1EntriesFor } from '../qcow2/geometry.ts';
import type { Preallocation } from '../qcow2/preallocate.ts';
import type { CompressionType } from '../qcow2/spec.ts';
import { MAX_L1_BYTES, SUBCLUSTERS } from '../qcow2/spec.ts';
import { SECTOR } from '../units.ts';
import { checkEncryptionAlias, checkEncryptionWords, toEncryption } from './create-encryption.ts';
import { type Fail, isOn } from './create-options.ts';

type Options = ReadonlyMap<string, string>;

const COMPATS: readonly string[] = ['0.10', '1.1', 'v2', 'v3'];
const PREALLOCATIONS: readonly string[] = ['off', 'metadata', 'falloc', 'full'];
/** QEMU's limit for any image, in whole GiB. */
const MAX_LENGTH = 2n ** 63n - 2n ** 30n;

/** The qcow2 image that the options describe; `size` in bytes, not yet in whole sectors. */
export function toImageOptions(
  options: Options,
  size: bigint,
  secrets: Secrets,
  fail: Fail,
): CreateOptions {
  checkHint(options, fail);
  checkEncryptionAlias(options, fail);
  checkWords(options, fail);
  const version = /^(0\.10|v2)$/.test(options.get('compat') ?? '') ? 2 : 3;
  const extendedL2 = isOn(options, 'extended_l2');
  const clusterSize = checkClusters(options, version, extendedL2, fail);
  checkBackingOptions(options, fail);
  const refcountBits = checkVersion(options, version, fail);
  checkDataFile(options, version, fail);
  checkCompression(options, version, fail);
  const dataFile = options.get('data_file');
  const backingFile = options.get('backing_file');
  const backingFormat = options.get('backing_fmt');
  const image: CreateOptions = {
    size: checkSize(size, clusterSize, refcountBits, extendedL2, fail),
    clusterSize,
    version,
    refcountBits,
    compressionType: (options.get('compression_type') ?? 'zlib') as CompressionType,
    lazyRefcounts: isOn(options, 'lazy_refcounts'),
    extendedL2,
    preallocation: preallocationOf(options),
    ...(dataFile !== undefined && { dataFile }),
    ...(isOn(options, 'data_file_raw') && { dataFileRaw: true }),
    ...(backingFile !== undefined && { backingFile }),
    ...(backingFormat !== undefined && { backingFormat }),
  };
  checkName(image, fail);
  return withEncryption(image, options, secrets, fail);
}

/** Last: QEMU has a file by then. */
function withEncryption(
  image: CreateOptions,
  options: Options,
  secrets: Secrets,
  fail: Fail,
): CreateOptions {
  const encryption = toEncryption(options, secrets, fail);
  if (encryption === undefined) return image;
  const whole = { ...image, encryption };
  try {
    checkCreateOptions(whole, '');
  } catch (error) {
    throw error instanceof ImageError ? fail(error.message) : error;
  }
  return whole;
}

function preallocationOf(options: Options): Preallocation {
  const mode = (options.get('preallocation') ?? 'off') as Preallocation;
  // Who reads the data file alone must not depend on the map.
  return mode === 'off' && isOn(options, 'data_file_raw') ? 'metadata' : mode;
}

function checkHint(options: Options, fail: Fail): void {
  if (BigInt.asUintN(64, BigInt(options.get('extent_size_hint') ?? 0)) < 2n ** 32n) return;
  throw fail('Extent size hint is too large');
}

/** In the order of the members in QEMU's own description of an image, and by their names there. */
function checkWords(options: Options, fail: Fail): void {
  const check = (option: string, name: string, valid: (value: string) => boolean) => {
    const value = options.get(option);
    if (value === undefined || valid(value)) return;
    throw fail(`Parameter '${name}' does not accept value '${value}'`);
  };
  check('compat', 'version', (value) => COMPATS.includes(value));
  check('backing_fmt', 'backing-fmt', isDriverOfQemu);
  checkEncryptionWords(options, fail);
  check('preallocation', 'preallocation', (value) => PREALLOCATIONS.includes(value));
  check('compression_type', 'compression-type', (value) => value === 'zlib' || value === 'zstd');
}

/** Returns the size of clusters. */
function checkClusters(options: Options, version: 2 | 3, extendedL2: boolean, fail: Fail): number {
  const what = 'Extended L2 entries are only supported with';
  if (extendedL2 && version === 2) {
    throw fail(`${what} compatibility level 1.1 and above (use version=v3 or greater)`);
  }
  const clusterSize = powerOfTwo(options.get('cluster_size') ?? '65536');
  if (clusterSize === undefined || clusterSize < 512 || clusterSize > 2 ** 21) {
    throw fail('Cluster size must be a power of two between 512 and 2048k');
  }
  if (extendedL2 && clusterSize < SUBCLUSTERS * SECTOR) {
    throw fail(`${what} cluster sizes of at least ${SUBCLUSTERS * SECTOR} bytes`);
  }
  return clusterSize;
}

function checkBackingOptions(options: Options, fail: Fail): void {
  const backed = options.has('backing_file');
  const isMapped = (options.get('preallocation') ?? 'off') !== 'off';
  if (backed && isMapped && !isOn(options, 'extended_l2')) {
    throw fail(
      'Backing file and preallocation can only be used at the same time if extended_l2 is on',
    );
  }
  if (!backed && options.has('backing_fmt')) {
    throw fail('Backing format cannot be used without backing file');
  }
}

/** What version 2 does not have. Returns the width of refcounts. */
function checkVersion(options: Options, version: 2 | 3, fail: Fail): number {
  if (version === 2 && isOn(options, 'lazy_refcounts')) {
    throw fail(`Lazy refcounts only supported with compatibility level 1.1 ${NEWER}`);
  }
  const refcountBits = powerOfTwo(options.get('refcount_bits') ?? '16');
  if (refcountBits === undefined || refcountBits > 64) {
    throw fail('Refcount width must be a power of two and may not exceed 64 bits');
  }
  if (version === 2 && refcountBits !== 16) {
    throw fail(
      'Different refcount widths than 16 bits require compatibility level 1.1 or above ' +
        '(use version=v3 or greater)',
    );
  }
  return refcountBits;
}

const NEWER = 'and above (use version=v3 or greater)';

function checkDataFile(options: Options, version: 2 | 3, fail: Fail): void {
  const raw = isOn(options, 'data_file_raw');
  if (raw && !options.has('data_file')) throw fail('data-file-raw requires data-file');
  if (raw && options.has('backing_file')) {
    throw fail('Backing file and data-file-raw cannot be used at the same time');
  }
  if (version === 2 && options.has('data_file')) {
    throw fail(`External data files are only supported with compatibility level 1.1 ${NEWER}`);
  }
}

function checkCompression(options: Options, version: 2 | 3, fail: Fail): void {
  if (version === 2 && options.get('compression_type') === 'zstd') {
    throw fail(`Non-zlib compression type is only supported with compatibility level 1.1 ${NEWER}`);
  }
}

/** The size in whole sectors, if an L1 table can map it. */
function checkSize(
  bytes: bigint,
  clusterSize: number,
  refcountBits: number,
  extendedL2: boolean,
  fail: Fail,
): number {
  const size = wholeSectors(bytes);
  if (BigInt.asIntN(64, size) < 0n) {
    throw fail('Could not resize image: Image size cannot be negative');
  }
  if (size > MAX_LENGTH) {
    throw fail(`Could not resize image: offset(${size}) exceeds maximum(${MAX_LENGTH})`);
  }
  const geometry = geometryOf(Math.log2(clusterSize), Math.log2(refcountBits), extendedL2);
  const entries = l1EntriesFor(Number(size), geometry);
  if (!Number.isSafeInteger(Number(size)) || entries * 8 > MAX_L1_BYTES) {
    throw fail(tooLarge('qcow2'));
  }
  return Number(size);
}

export function tooLarge(format: string): string {
  const remedy = format === 'qcow2' ? ' (try using a larger cluster size)' : '';
  return `The image size is too large for file format '${format}'${remedy}`;
}

/** A name that does not fit into the header is found before there is a file. */
function checkName(image: CreateOptions, fail: Fail): void {
  try {
    checkCreateOptions(image, '');
  } catch {
    const { backingFile = '', backingFormat } = image;
    const why =
      Buffer.byteLength(backingFile) > 1023 ? 'Invalid argument' : 'No space left on device';
    throw fail(
      `Could not assign backing file '${backingFile}' with format '${backingFormat}': ${why}`,
    );
  }
}

export interface RawOptions {
  /** In whole sectors. */
  readonly size: number;
  readonly preallocation: 'off' | 'falloc' | 'full';
}

export function toRawOptions(options: Options, bytes: bigint, fail: Fail): RawOptions {
  checkHint(options, fail);
  const preallocation = options.get('preallocation') ?? 'off';
  if (!PREALLOCATIONS.includes(preallocation)) {
    throw fail(`invalid parameter value: ${preallocation}`);
  }
  if (preallocation === 'metadata') throw fail('Unsupported preallocation mode: metadata');
  const size = wholeSectors(bytes);
  if (BigInt.asIntN(64, size) < 0n) throw fail('Could not resize file: Invalid argument');
  if (!Number.isSafeInteger(Number(size))) throw fail(tooLarge('raw'));
  return { size: Number(size), preallocation: preallocation as RawOptions['preallocation'] };
}

const wholeSectors = (bytes: bigint): bigint => ((bytes + 511n) / 512n) * 512n;

function powerOfTwo(text: string): number | undefined {
  const value = Number(text);
  return value >= 1 && Number.isInteger(Math.log2(value)) ? value : undefined;
}
