// A new, empty image: header, refcount table and refcount block; the rest follows by growing it.

import { ImageError } from '../errors.ts';
import { type FilePart, permissionsFor } from '../io/permissions.ts';
import type { Storage } from '../io/storage.ts';
import { SECTOR } from '../units.ts';
import { type CreateHost, encryptEmpty, type NewEncryption } from './encryption/encrypt-empty.ts';
import { checkNewSpec } from './encryption/new-luks.ts';
import { encodeFeatureNames, type HeaderExtension } from './extensions.ts';
import { viewOf, writeU64 } from './fields.ts';
import { geometryOf, l1EntriesFor } from './geometry.ts';
import { encodeHeader, type NewHeader } from './header.ts';
import { Qcow2Image } from './image.ts';
import { type Preallocation, preallocate } from './preallocate.ts';
import { setRefcount } from './refcount.ts';
import { checkReachable } from './resize.ts';
import {
  AUTOCLEAR,
  COMPATIBLE,
  type CompressionType,
  CRYPT_NONE,
  EXTENSION,
  FEATURE_NAMES,
  INCOMPATIBLE,
  MAGIC,
  NEW_HEADER_LENGTH,
  SUBCLUSTERS,
  V2_HEADER_LENGTH,
} from './spec.ts';

export interface CreateOptions {
  /** Size of the virtual disk in bytes, a multiple of 512. */
  readonly size: number;
  /** A power of two, 512 to 2 MiB. Default 65536. */
  readonly clusterSize?: number;
  /** 2 ("compat 0.10") or 3 ("compat 1.1", the default). */
  readonly version?: 2 | 3;
  /** A power of two, 1 to 64; version 2 has 16 alone. Default 16. */
  readonly refcountBits?: number;
  readonly compressionType?: CompressionType;
  readonly lazyRefcounts?: boolean;
  /** Clusters of 32 subclusters, 16384 bytes at least; version 3 alone. Default false. */
  readonly extendedL2?: boolean;
  /** Stored as it is. */
  readonly backingFile?: string;
  readonly backingFormat?: string;
  /** Encrypts the disk. Needs a host with cryptography. */
  readonly encryption?: NewEncryption;
  /** Default `off`; with a backing file, which it would hide, only together with `extendedL2`. */
  readonly preallocation?: Preallocation;
  /** Name of the external data file, stored as it is; `createImage` is given its storage. */
  readonly dataFile?: string;
  /**
   * The data file stays valid as a raw image: all clusters are mapped from the start. Not with a
   * backing file.
   */
  readonly dataFileRaw?: boolean;
}

/** QEMU leaves the feature name table out of smaller header clusters. */
const FEATURE_NAMES_FROM = 8192;

/** Throws what `createImage` would throw for these options, before there is a file. */
export function checkCreateOptions(options: CreateOptions, filename: string): void {
  if (options.encryption?.format === 'luks') checkNewSpec(options.encryption.spec);
  newHeader(options, filename);
}

/**
 * Writes a new image into `storage` (its old content is lost) and opens it for writing. With a
 * backing file, set `backing` before data is read or written. `dataFile`: empty, and the image's from
 * now on; it is closed with the image.
 */
export async function createImage(
  storage: Storage,
  options: CreateOptions,
  dataFile?: Storage,
  host?: CreateHost,
): Promise<Qcow2Image> {
  const plain = newHeader(options, storage.filename);
  await lockForWriting(storage, 'image');
  if (dataFile !== undefined) await lockForWriting(dataFile, 'data');
  await writeEmpty(storage, plain, 2 ** plain.clusterBits);
  const header = await encryptEmpty(storage, plain, options.encryption, host);
  const open = () => openNew(storage, options.encryption, dataFile, host);
  const image = await open();
  await image.grow(options.size);
  await preallocate(image, options.preallocation ?? (options.dataFileRaw ? 'metadata' : 'off'));
  await image.flush();
  if (header.backingFile === null) return image;
  // Last: while it grows, an image must not have a backing file that is not open.
  const grown = await Qcow2Image.readHeader(storage);
  const { extensions, backingFile } = header;
  await storage.write(0, encodeHeader({ ...grown, extensions, backingFile }), 'header');
  await storage.flush();
  return await open();
}

/** So far nobody was to be disturbed by a file that is emptied; now there are tables in it. */
async function lockForWriting(storage: Storage, part: FilePart): Promise<void> {
  const { use, share } = permissionsFor(part, 'write');
  await storage.lock(use, share);
}

function openNew(
  storage: Storage,
  encryption: NewEncryption | undefined,
  dataFile: Storage | undefined,
  host: CreateHost | undefined,
): Promise<Qcow2Image> {
  return Qcow2Image.open(storage, {
    ...(host !== undefined && { codecs: host.codecs }),
    openDataFile: dataFile && (() => Promise.resolve(dataFile)),
    passphrase: () => encryption?.passphrase,
  });
}

/** The header of the disk before it has its size. */
function newHeader(options: CreateOptions, filename: string): NewHeader {
  const version = options.version ?? 3;
  const clusterBits = powerOfTwo(options.clusterSize ?? 65536, 9, 21, 'cluster size');
  const refcountOrder = powerOfTwo(options.refcountBits ?? 16, 0, 6, 'refcount width');
  checkVersion(options, version, refcountOrder);
  if (!Number.isSafeInteger(options.size) || options.size < 0 || options.size % 512 !== 0) {
    throw new ImageError('invalid', `The size must be a multiple of 512 bytes: ${options.size}`);
  }
  const extendedL2 = options.extendedL2 ?? false;
  const isMapped = (options.preallocation ?? 'off') !== 'off';
  if (isMapped && options.backingFile !== undefined && !extendedL2) {
    throw new ImageError('invalid', 'A preallocated image would hide its backing file');
  }
  if (
    options.dataFileRaw &&
    (options.dataFile === undefined || options.backingFile !== undefined)
  ) {
    throw new ImageError('invalid', 'A raw data file needs a name, and an image that stands alone');
  }
  const geometry = geometryOf(clusterBits, refcountOrder, extendedL2);
  if (geometry.subclusterSize < SECTOR) {
    throw new ImageError(
      'invalid',
      `Extended L2 entries need clusters of at least ${SUBCLUSTERS * SECTOR} bytes`,
    );
  }
  checkReachable(filename, l1EntriesFor(options.size, geometry));
  const { clusterSize } = geometry;
  const compressionType = options.compressionType ?? 'zlib';
  const header: NewHeader = {
    magic: MAGIC,
    version,
    backingFileSize: 0,
    clusterBits,
    size: 0,
    cryptMethod: CRYPT_NONE,
    l1Size: 0,
    l1TableOffset: 0,
    refcountTableOffset: clusterSize,
    refcountTableClusters: 1,
    nbSnapshots: 0,
    snapshotsOffset: 0,
    incompatibleFeatures:
      (compressionType === 'zlib' ? 0n : INCOMPATIBLE.compressionType) |
      (options.dataFile === undefined ? 0n : INCOMPATIBLE.externalDataFile) |
      (extendedL2 ? INCOMPATIBLE.extendedL2 : 0n),
    compatibleFeatures: options.lazyRefcounts ? COMPATIBLE.lazyRefcounts : 0n,
    autoclearFeatures: options.dataFileRaw ? AUTOCLEAR.rawExternalData : 0n,
    refcountOrder,
    headerLength: version === 2 ? V2_HEADER_LENGTH : NEW_HEADER_LENGTH,
    compressionType,
    extensions: newExtensions(options, version, clusterSize),
    backingFile: options.backingFile ?? null,
  };
  // Refuses a name that does not fit.
  encodeHeader(header);
  return header;
}

function checkVersion(options: CreateOptions, version: 2 | 3, refcountOrder: number): void {
  if (version === 3) return;
  if (refcountOrder !== 4) {
    throw new ImageError('invalid', 'Version 2 images have refcounts of 16 bits');
  }
  if (options.lazyRefcounts || options.compressionType === 'zstd' || options.dataFile) {
    throw new ImageError(
      'invalid',
      'Version 2 images have neither lazy refcounts nor zstd nor external data files',
    );
  }
  if (options.extendedL2) {
    throw new ImageError('invalid', 'Version 2 images have no extended L2 entries');
  }
}

/** A disk of no bytes: header, refcount table and refcount block; no backing file yet. */
async function writeEmpty(storage: Storage, header: NewHeader, clusterSize: number): Promise<void> {
  const bytes = new Uint8Array(3 * clusterSize);
  bytes.set(encodeHeader({ ...header, backingFile: null }));
  writeU64(viewOf(bytes), clusterSize, 2 * clusterSize);
  const block = bytes.subarray(2 * clusterSize);
  for (let cluster = 0; cluster < 3; cluster++) {
    setRefcount(block, cluster, header.refcountOrder, 1);
  }
  await storage.write(0, bytes, 'header');
}

function newExtensions(
  options: CreateOptions,
  version: number,
  clusterSize: number,
): HeaderExtension[] {
  const extensions: HeaderExtension[] = [];
  if (options.backingFile !== undefined && options.backingFormat !== undefined) {
    const data = new TextEncoder().encode(options.backingFormat);
    extensions.push({ type: EXTENSION.backingFormat, data });
  }
  if (options.dataFile !== undefined) {
    const data = new TextEncoder().encode(options.dataFile);
    extensions.push({ type: EXTENSION.externalDataFile, data });
  }
  if (version >= 3 && clusterSize >= FEATURE_NAMES_FROM) {
    extensions.push({ type: EXTENSION.featureNameTable, data: encodeFeatureNames(FEATURE_NAMES) });
  }
  return extensions;
}

function powerOfTwo(value: number, least: number, most: number, what: string): number {
  const power = Math.log2(value);
  if (Number.isInteger(power) && power >= least && power <= most) return power;
  throw new ImageError(
    'invalid',
    `The ${what} must be a power of two between ${2 ** least} and ${2 ** most}: ${value}`,
  );
}
