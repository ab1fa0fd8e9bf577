// The header cluster: fixed fields, extensions and backing file name, parsed and checked against
// the format's limits before anything else of the file is believed. Pure: bytes in, bytes out.

import { ImageError } from '../errors.ts';
import { decodeName, encodeName } from '../io/name-bytes.ts';
import { SECTOR } from '../units.ts';
import {
  encodeExtensions,
  type FeatureName,
  findExtension,
  type HeaderExtension,
  parseExtensions,
  parseFeatureNames,
} from './extensions.ts';
import {
  type FieldValues,
  readAtMost,
  readExact,
  readFields,
  readU64,
  viewOf,
  writeField,
} from './fields.ts';
import { type Geometry, geometryOf, l1EntriesFor } from './geometry.ts';
import {
  COMPRESSION_TYPE_OFFSET,
  COMPRESSION_TYPES,
  type CompressionType,
  CRYPT_AES,
  CRYPT_LUKS,
  CRYPT_NONE,
  EXTENSION,
  HEADER,
  INCOMPATIBLE,
  KNOWN_INCOMPATIBLE,
  MAGIC,
  MAX_BACKING_NAME,
  MAX_CLUSTER_BITS,
  MAX_HOST_OFFSET,
  MAX_L1_BYTES,
  MAX_READABLE_OFFSET,
  MAX_REFCOUNT_ORDER,
  MAX_REFCOUNT_TABLE_BYTES,
  MAX_SNAPSHOTS,
  MIN_CLUSTER_BITS,
  SNAPSHOT_FIXED_LENGTH,
  V2_HEADER_LENGTH,
  V3_HEADER_LENGTH,
} from './spec.ts';

export interface Header extends Readonly<FieldValues<typeof HEADER>> {
  readonly compressionType: CompressionType;
  readonly extensions: readonly HeaderExtension[];
  /** First byte after the extension area. */
  readonly extensionsEnd: number;
  /** As stored; null without one. */
  readonly backingFile: string | null;
  /** As stored; null where the header does not say. */
  readonly backingFormat: string | null;
  readonly dataFile: string | null;
  readonly featureNames: readonly FeatureName[];
}

/** True where the bytes begin like a qcow2 image; says nothing about the rest. */
export function isQcow2(bytes: Uint8Array): boolean {
  if (bytes.length < 8) return false;
  const view = viewOf(bytes);
  return view.getUint32(0) === MAGIC && view.getUint32(4) >= 2;
}

/** Bytes from the start of the file that `parseHeader` needs, from the first 512 of them. */
export function headerClusterSize(start: Uint8Array): number {
  const fields = readFixedFields(start);
  return 2 ** fields.clusterBits;
}

/** A refcount table may be looked for anywhere: it can be written anew. */
function readerOf(name: string): typeof readU64 {
  if (name === 'refcountTableOffset') return readExact;
  return name.endsWith('Offset') ? readAtMost : readU64;
}

function readFixedFields(bytes: Uint8Array): FieldValues<typeof HEADER> {
  if (bytes.length < 8 || viewOf(bytes).getUint32(0) !== MAGIC) {
    throw new ImageError('format', 'Image is not in qcow2 format');
  }
  const version = viewOf(bytes).getUint32(4);
  if (version !== 2 && version !== 3) {
    throw new ImageError('unsupported', `Unsupported qcow2 version ${version}`);
  }
  const minimum = version === 2 ? V2_HEADER_LENGTH : V3_HEADER_LENGTH;
  if (bytes.length < minimum) throw new ImageError('format', 'qcow2 header too short');
  const known = version === 2 ? bytes.subarray(0, V2_HEADER_LENGTH) : bytes;
  // Each check of an offset refuses what is too large in its own words.
  const fields = readFields(HEADER, known, readerOf);
  if (fields.clusterBits < MIN_CLUSTER_BITS || fields.clusterBits > MAX_CLUSTER_BITS) {
    throw new ImageError('unsupported', `Unsupported cluster size: 2^${fields.clusterBits}`);
  }
  if (version === 2) {
    fields.refcountOrder = 4;
    fields.headerLength = V2_HEADER_LENGTH;
  } else if (fields.headerLength < V3_HEADER_LENGTH) {
    throw new ImageError('corrupt', 'qcow2 header too short');
  }
  return fields;
}

/** Where the backing file name ends that `backingNameIn` needs, from the first 512 bytes. */
export function backingNameEnd(start: Uint8Array): number {
  const { backingFileOffset, backingFileSize } = readFixedFields(start);
  return Math.min(backingFileOffset + backingFileSize, 2 ** MAX_CLUSTER_BITS);
}

/** The stored backing file name, also of an image that can't be opened here; null without one. */
export function backingNameIn(cluster: Uint8Array): string | null {
  return readBackingFile(readFixedFields(cluster), cluster);
}

/**
 * What an image is opened for: to be checked, it may lack a refcount table; to be repaired, it may
 * have more snapshots than the format allows, of which the first are taken.
 */
export type Checking = boolean | 'repair';

/** Parses the first cluster of an image, or as much of it as the file has. */
export function parseHeader(bytes: Uint8Array, checking: Checking = false): Header {
  const fields = readFixedFields(bytes);
  if (checking === 'repair') fields.nbSnapshots = Math.min(fields.nbSnapshots, MAX_SNAPSHOTS);
  const clusterSize = 2 ** fields.clusterBits;
  if (fields.headerLength > clusterSize) {
    throw new ImageError('corrupt', 'qcow2 header exceeds cluster size');
  }
  if (fields.backingFileOffset > clusterSize) {
    throw new ImageError('corrupt', 'Invalid backing file offset');
  }
  const padded = new Uint8Array(clusterSize);
  padded.set(bytes.subarray(0, clusterSize));
  const extensionsLimit = fields.backingFileOffset || clusterSize;
  checkFeatures(fields, () => featureNamesOf(padded, fields.headerLength, extensionsLimit));
  checkLimits(fields, checking);
  const compressionType = readCompressionType(fields, padded);
  const { extensions, end } = parseExtensions(padded, fields.headerLength, extensionsLimit);
  return {
    ...fields,
    compressionType,
    extensions,
    extensionsEnd: end,
    backingFile: readBackingFile(fields, bytes.subarray(0, clusterSize)),
    backingFormat: stringExtension(extensions, EXTENSION.backingFormat),
    dataFile: stringExtension(extensions, EXTENSION.externalDataFile),
    featureNames: parseFeatureNames(
      findExtension(extensions, EXTENSION.featureNameTable) ?? new Uint8Array(),
    ),
  };
}

function stringExtension(extensions: readonly HeaderExtension[], type: number): string | null {
  const data = findExtension(extensions, type);
  return data === undefined ? null : untilNul(data);
}

function featureNamesOf(bytes: Uint8Array, start: number, end: number): readonly FeatureName[] {
  const { extensions } = parseExtensions(bytes, start, end);
  return parseFeatureNames(
    findExtension(extensions, EXTENSION.featureNameTable) ?? new Uint8Array(),
  );
}

function checkFeatures(
  fields: FieldValues<typeof HEADER>,
  names: () => readonly FeatureName[],
): void {
  const unknown = fields.incompatibleFeatures & ~KNOWN_INCOMPATIBLE;
  if (unknown === 0n) return;
  const known = names().filter(
    ({ type, bit }) => type === 0 && (unknown >> BigInt(bit)) & 1n && bit < 64,
  );
  const rest = known.reduce((bits, { bit }) => bits & ~(1n << BigInt(bit)), unknown);
  const words = known.map(({ name }) => name);
  if (rest !== 0n) words.push(`Unknown incompatible feature: ${rest.toString(16)}`);
  throw new ImageError('unsupported', `Unsupported qcow2 feature(s): ${words.join(', ')}`);
}

function checkLimits(fields: FieldValues<typeof HEADER>, checking: Checking): void {
  const { clusterSize, subclusterSize } = geometryOfHeader(fields);
  if (subclusterSize < SECTOR) {
    throw new ImageError('unsupported', `Unsupported subcluster size: ${subclusterSize}`);
  }
  if (fields.refcountOrder > MAX_REFCOUNT_ORDER) {
    throw new ImageError(
      'corrupt',
      'Reference count entry width too large; may not exceed 64 bits',
    );
  }
  if (![CRYPT_NONE, CRYPT_AES, CRYPT_LUKS].includes(fields.cryptMethod)) {
    throw new ImageError('unsupported', `Unsupported encryption method ${fields.cryptMethod}`);
  }
  if (fields.refcountTableClusters === 0 && !checking) {
    throw new ImageError('corrupt', 'Image does not contain a reference count table');
  }
  if (fields.refcountTableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
    throw new ImageError('corrupt', 'Reference count table too large');
  }
  checkTable(fields.refcountTableOffset, clusterSize, 'Reference count table', checking !== false);
  const overhanging = fields.nbSnapshots - MAX_SNAPSHOTS;
  if (overhanging > 0) {
    const hint = checking ? { hint: overhangingHint(overhanging) } : {};
    throw new ImageError('corrupt', 'Snapshot table too large', hint);
  }
  checkTable(fields.snapshotsOffset, clusterSize, 'Snapshot table');
  if (fields.nbSnapshots * SNAPSHOT_FIXED_LENGTH > Number.MAX_SAFE_INTEGER) {
    throw new ImageError('corrupt', 'Snapshot table too large');
  }
  if (fields.l1Size * 8 > MAX_L1_BYTES) {
    throw new ImageError('corrupt', 'Active L1 table too large');
  }
  const needed = l1EntriesFor(fields.size, geometryOfHeader(fields));
  if (needed > 0x7fff_ffff) throw new ImageError('corrupt', 'Image is too big');
  if (fields.l1Size < needed) throw new ImageError('corrupt', 'L1 table is too small');
  checkTable(fields.l1TableOffset, clusterSize, 'Active L1 table');
}

/** What to do about snapshots past the format's limits. */
export function overhangingHint(count: number): string {
  return `You can force-remove all ${count} overhanging snapshots with qemu-img check -r all`;
}

function checkTable(offset: number, clusterSize: number, what: string, anywhere = false): void {
  const isPlace = Number.isSafeInteger(offset) && offset < MAX_HOST_OFFSET;
  const isReadable = offset < MAX_READABLE_OFFSET - MAX_REFCOUNT_TABLE_BYTES;
  if (offset % clusterSize !== 0 || !(isPlace || (anywhere && isReadable))) {
    throw new ImageError('corrupt', `${what} offset invalid`);
  }
}

function readCompressionType(
  fields: FieldValues<typeof HEADER>,
  bytes: Uint8Array,
): CompressionType {
  const flagged = (fields.incompatibleFeatures & INCOMPATIBLE.compressionType) !== 0n;
  const value =
    fields.headerLength > COMPRESSION_TYPE_OFFSET ? (bytes[COMPRESSION_TYPE_OFFSET] ?? 0) : 0;
  const type = COMPRESSION_TYPES[value];
  if (type === undefined) {
    throw new ImageError('unsupported', `qcow2: unknown compression type: ${value}`);
  }
  if (flagged && value === 0) {
    throw new ImageError(
      'corrupt',
      'qcow2: Compression type incompatible feature bit must not be set',
    );
  }
  if (!flagged && value !== 0) {
    throw new ImageError('corrupt', 'qcow2: Compression type incompatible feature bit must be set');
  }
  return type;
}

function readBackingFile(fields: FieldValues<typeof HEADER>, bytes: Uint8Array): string | null {
  // A name of no bytes is none.
  if (fields.backingFileOffset === 0 || fields.backingFileSize === 0) return null;
  const { backingFileOffset: start, backingFileSize: length } = fields;
  if (length > MAX_BACKING_NAME || length > 2 ** fields.clusterBits - start) {
    throw new ImageError('corrupt', 'Backing file name too long');
  }
  if (start + length > bytes.length) {
    throw new ImageError('corrupt', 'The file ends before its backing file name');
  }
  return untilNul(bytes.subarray(start, start + length));
}

/** Names end at a NUL: no file has one. */
function untilNul(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return decodeName(end < 0 ? bytes : bytes.subarray(0, end));
}

export function geometryOfHeader(
  header: Pick<Header, 'clusterBits' | 'refcountOrder' | 'incompatibleFeatures'>,
): Geometry {
  const extended = (header.incompatibleFeatures & INCOMPATIBLE.extendedL2) !== 0n;
  const external = (header.incompatibleFeatures & INCOMPATIBLE.externalDataFile) !== 0n;
  return geometryOf(header.clusterBits, header.refcountOrder, extended, external);
}

export interface NewHeader extends Omit<FieldValues<typeof HEADER>, 'backingFileOffset'> {
  readonly compressionType: CompressionType;
  readonly extensions: readonly HeaderExtension[];
  readonly backingFile: string | null;
}

/** A whole header from its parts: fields, extensions, then the backing file name. */
export function encodeHeader(header: NewHeader): Uint8Array {
  const extensions = encodeExtensions(header.extensions);
  const name = encodeName(header.backingFile ?? '');
  const nameOffset = header.headerLength + extensions.length;
  const length = nameOffset + name.length;
  if (name.length > MAX_BACKING_NAME || length > 2 ** header.clusterBits) {
    throw new ImageError('invalid', 'Header and backing file name do not fit into one cluster');
  }
  const bytes = new Uint8Array(length);
  for (const [key, field] of Object.entries(HEADER)) {
    if (header.version === 2 && field.offset >= V2_HEADER_LENGTH) continue;
    if (key === 'backingFileOffset') continue;
    writeField(bytes, field, header[key as keyof FieldValues<typeof HEADER> & keyof NewHeader]);
  }
  if (header.headerLength > COMPRESSION_TYPE_OFFSET) {
    bytes[COMPRESSION_TYPE_OFFSET] = COMPRESSION_TYPES.indexOf(header.compressionType);
  }
  bytes.set(extensions, header.headerLength);
  if (header.backingFile !== null) {
    writeField(bytes, HEADER.backingFileOffset, nameOffset);
    writeField(bytes, HEADER.backingFileSize, name.length);
    bytes.set(name, nameOffset);
  }
  return bytes;
}
