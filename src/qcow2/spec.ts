// Every constant of the qcow2 specification (docs/interop/qcow2.txt in QEMU's source), in its order
// and its words. Offsets into the header are written here and nowhere else.

export const MAGIC = 0x514649fb; // "QFI\xfb"

/** A field of a big-endian structure: its position and its width in bits. */
export interface Field {
  readonly offset: number;
  readonly bits: 32 | 64;
  /** 64-bit fields: a number that must be a safe integer, or a bigint word of feature bits. */
  readonly as: 'number' | 'flags';
}
const u32 = (offset: number) => ({ offset, bits: 32, as: 'number' }) as const;
const offset64 = (offset: number) => ({ offset, bits: 64, as: 'number' }) as const;
const flags64 = (offset: number) => ({ offset, bits: 64, as: 'flags' }) as const;

/** "Header": bytes 0..103. Version 2 ends after `snapshotsOffset`. */
export const HEADER = {
  magic: u32(0),
  version: u32(4),
  backingFileOffset: offset64(8),
  backingFileSize: u32(16),
  clusterBits: u32(20),
  size: offset64(24),
  cryptMethod: u32(32),
  l1Size: u32(36),
  l1TableOffset: offset64(40),
  refcountTableOffset: offset64(48),
  refcountTableClusters: u32(56),
  nbSnapshots: u32(60),
  snapshotsOffset: offset64(64),
  incompatibleFeatures: flags64(72),
  compatibleFeatures: flags64(80),
  autoclearFeatures: flags64(88),
  refcountOrder: u32(96),
  headerLength: u32(100),
} as const satisfies Record<string, Field>;

export const V2_HEADER_LENGTH = 72;
export const V3_HEADER_LENGTH = 104;
/** "Additional fields": one byte, present when headerLength exceeds its offset. */
export const COMPRESSION_TYPE_OFFSET = 104;
/** What we write: the fields above, compression_type and its padding. */
export const NEW_HEADER_LENGTH = 112;

export const CRYPT_NONE = 0;
export const CRYPT_AES = 1;
export const CRYPT_LUKS = 2;

export const INCOMPATIBLE = {
  dirty: 1n << 0n,
  corrupt: 1n << 1n,
  externalDataFile: 1n << 2n,
  compressionType: 1n << 3n,
  extendedL2: 1n << 4n,
} as const;
export const COMPATIBLE = { lazyRefcounts: 1n << 0n } as const;
export const AUTOCLEAR = { bitmaps: 1n << 0n, rawExternalData: 1n << 1n } as const;

export const KNOWN_INCOMPATIBLE =
  INCOMPATIBLE.dirty |
  INCOMPATIBLE.corrupt |
  INCOMPATIBLE.externalDataFile |
  INCOMPATIBLE.compressionType |
  INCOMPATIBLE.extendedL2;
export const KNOWN_AUTOCLEAR = AUTOCLEAR.bitmaps | AUTOCLEAR.rawExternalData;

/** "Header extensions": types. */
export const EXTENSION = {
  end: 0x0000_0000,
  backingFormat: 0xe279_2aca,
  featureNameTable: 0x6803_f857,
  bitmaps: 0x2385_2875,
  encryptionHeader: 0x0537_be77,
  externalDataFile: 0x4441_5441,
} as const;

/** "Bitmap directory entry": offsets in its fixed part. */
export const BITMAP_ENTRY = {
  tableOffset: 0,
  tableSize: 8,
  flags: 12,
  type: 16,
  granularityBits: 17,
  nameSize: 18,
  extraDataSize: 20,
} as const;

/** "Feature name table": one entry, and the names that QEMU gives the features it knows. */
export const FEATURE_NAME_ENTRY = {
  length: 48,
  typeOffset: 0,
  bitOffset: 1,
  nameOffset: 2,
} as const;
export const FEATURE_NAMES: readonly { type: 0 | 1 | 2; bit: number; name: string }[] = [
  { type: 0, bit: 0, name: 'dirty bit' },
  { type: 0, bit: 1, name: 'corrupt bit' },
  { type: 0, bit: 2, name: 'external data file' },
  { type: 0, bit: 3, name: 'compression type' },
  { type: 0, bit: 4, name: 'extended L2 entries' },
  { type: 1, bit: 0, name: 'lazy refcounts' },
  { type: 2, bit: 0, name: 'bitmaps' },
  { type: 2, bit: 1, name: 'raw external data' },
];

export const COMPRESSION_TYPES = ['zlib', 'zstd'] as const;
export type CompressionType = (typeof COMPRESSION_TYPES)[number];

/** cluster_bits: 512 bytes is the format's least, 2 MiB is what QEMU opens at most. */
export const MIN_CLUSTER_BITS = 9;
export const MAX_CLUSTER_BITS = 21;
export const MAX_REFCOUNT_ORDER = 6;
export const MAX_BACKING_NAME = 1023;
/** Implementation limits that the specification names for QEMU; ours too. */
export const MAX_L1_BYTES = 32 * 1024 * 1024;
export const MAX_REFCOUNT_TABLE_BYTES = 8 * 1024 * 1024;
export const MAX_SNAPSHOTS = 65536;
/** The whole snapshot table. */
export const MAX_SNAPSHOT_TABLE_BYTES = 1024 * MAX_SNAPSHOTS;
export const MAX_SNAPSHOT_EXTRA_DATA = 1024;
/** "Extended L2 Entries": a cluster has so many subclusters, of a sector each at least. */
export const SUBCLUSTERS = 32;
/** Within such an entry, whose first half is a standard one: bit x of each stands for subcluster x. */
export const EXTENDED_ENTRY = { zeroed: 8, allocated: 12 } as const;
/** Host offsets live in bits 9..55 of a table entry. */
export const MAX_HOST_OFFSET = 2 ** 56;
/** Reading past this offset is an error to QEMU; what lies past the file reads as zeros. */
export const MAX_READABLE_OFFSET = 2 ** 63 - 2 ** 30;

/** "Snapshot table entry": its fixed part. */
export const SNAPSHOT = {
  l1TableOffset: offset64(0),
  l1Size: u32(8),
  seconds: u32(16),
  nanoseconds: u32(20),
  vmClockNanoseconds: flags64(24),
  vmStateSize: u32(32),
  extraDataSize: u32(36),
} as const satisfies Record<string, Field>;
export const SNAPSHOT_ID_LENGTH_OFFSET = 12;
export const SNAPSHOT_NAME_LENGTH_OFFSET = 14;
export const SNAPSHOT_FIXED_LENGTH = 40;
/** "Extra data": relative to the entry. */
export const SNAPSHOT_EXTRA = { vmStateSize: 40, diskSize: 48, icount: 56 } as const;

// Table entries as two 32-bit halves: `high` holds bits 63..32, `low` bits 31..0.
/** L1 and L2 entries, bit 63: the refcount of what it points to is exactly one. */
export const COPIED_HIGH = 0x8000_0000;
/** L2 entries, bit 62. */
export const COMPRESSED_HIGH = 0x4000_0000;
/** L2 entries, bit 0: reads as zeros (version 3). */
export const ZERO_LOW = 0x0000_0001;
/** Bits 9..55: offset of a cluster. */
export const OFFSET_HIGH = 0x00ff_ffff;
export const OFFSET_LOW = 0xffff_fe00;
