// One L1 or L2 table entry, as two 32-bit halves, and what it means ("Cluster mapping").
// Pure and total: any 64 bits give a value or an ImageError.

import { ImageError } from '../errors.ts';
import { type HostOffset, hostOffset, joinU64, SECTOR } from '../units.ts';
import type { Geometry } from './geometry.ts';
import {
  COMPRESSED_HIGH,
  COPIED_HIGH,
  MAX_HOST_OFFSET,
  OFFSET_HIGH,
  OFFSET_LOW,
  ZERO_LOW,
} from './spec.ts';

export type L2Entry =
  | { readonly kind: 'unallocated' }
  /** Reads as zeros; `host` is a preallocated cluster or null. */
  | { readonly kind: 'zero'; readonly host: HostOffset | null; readonly copied: boolean }
  | { readonly kind: 'data'; readonly host: HostOffset; readonly copied: boolean }
  /** `host` is any byte; `lengthBytes` counts from it to the end of its last 512-byte sector. */
  | { readonly kind: 'compressed'; readonly host: HostOffset; readonly lengthBytes: number };

const UNALLOCATED: L2Entry = { kind: 'unallocated' };

function corrupt(what: string, high: number, low: number): ImageError {
  const hex = (half: number) => (half >>> 0).toString(16).padStart(8, '0');
  return new ImageError('corrupt', `${what} in table entry 0x${hex(high)}${hex(low)}`);
}

/**
 * Decodes an entry. Reserved bits are refused, as is a zero flag in a version 2 image, where that
 * bit is reserved.
 */
export function decodeL2Entry(
  high: number,
  low: number,
  { clusterBits, externalData }: Pick<Geometry, 'clusterBits' | 'externalData'>,
  version: number,
): L2Entry {
  if (high === 0 && low === 0) return UNALLOCATED;
  if (high & COMPRESSED_HIGH) {
    if (high & COPIED_HIGH) throw corrupt('COPIED on a compressed cluster', high, low);
    const entry = decodeCompressed(high, low, clusterBits);
    // Past 2^53 a number would be another offset; nothing can lie there.
    if (entry.host >= MAX_HOST_OFFSET || !Number.isSafeInteger(entry.host)) {
      throw corrupt('compressed offset out of range', high, low);
    }
    return entry;
  }
  const reservedLow = version === 2 ? ~OFFSET_LOW : ~OFFSET_LOW & ~ZERO_LOW;
  if (high & ~OFFSET_HIGH & ~COPIED_HIGH || low & reservedLow) {
    throw corrupt('reserved bits are set', high, low);
  }
  const copied = (high & COPIED_HIGH) !== 0;
  const host = clusterOffset(high, low);
  if (host % 2 ** clusterBits !== 0) throw corrupt('host cluster is not aligned', high, low);
  if (low & ZERO_LOW) return { kind: 'zero', host: host === 0 ? null : host, copied };
  // In an external data file the first cluster lies at 0: COPIED tells it from none.
  if (host === 0 && !(externalData && copied)) throw corrupt('a host cluster of 0', high, low);
  return { kind: 'data', host, copied };
}

/**
 * Throws `corrupt` unless the entry for the guest cluster at `guest` lies at the same offset of the
 * external data file. Nothing is compressed there.
 */
export function checkExternal(entry: L2Entry, guest: number): void {
  if (entry.kind === 'compressed') {
    throw new ImageError(
      'corrupt',
      'Compressed cluster entry found in image with external data file',
    );
  }
  if (entry.kind === 'unallocated' || entry.host === null || entry.host === guest) return;
  throw new ImageError(
    'corrupt',
    `External data file host cluster offset 0x${entry.host.toString(16)} does not match guest ` +
      `cluster offset: 0x${guest.toString(16)}`,
  );
}

type CompressedEntry = Extract<L2Entry, { kind: 'compressed' }>;

/** "Compressed Clusters Descriptor": the fields, whatever the flags say. */
export function decodeCompressed(high: number, low: number, clusterBits: number): CompressedEntry {
  // x = 62 - (cluster_bits - 8): offset in bits 0..x-1, additional sectors in bits x..61.
  const offsetBitsHigh = 62 - (clusterBits - 8) - 32;
  const offsetHigh = high & (2 ** offsetBitsHigh - 1);
  const host = hostOffset(joinU64(offsetHigh, low));
  const additionalSectors = (high & ~COMPRESSED_HIGH & ~COPIED_HIGH) >>> offsetBitsHigh;
  // From the low half: above 2^53 `host` is not exact.
  const lengthBytes = (additionalSectors + 1) * SECTOR - ((low >>> 0) % SECTOR);
  return { kind: 'compressed', host, lengthBytes };
}

/** Bits 9..55, as every standard entry of an L1, L2 or refcount table has them. */
export function clusterOffset(high: number, low: number): HostOffset {
  return hostOffset(joinU64(high & OFFSET_HIGH, low & OFFSET_LOW));
}

/** Where a standard entry points, right or wrong. */
export function misplaced(
  high: number,
  low: number,
  clusterSize: number,
): { readonly host: HostOffset; readonly unaligned: boolean } {
  const host = clusterOffset(high, low);
  return { host, unaligned: !(high & COMPRESSED_HIGH) && host % clusterSize !== 0 };
}

/** Writes a standard entry: a host cluster (0: none) with its flags. */
export function encodeEntry(
  view: DataView,
  position: number,
  host: number,
  flags: { readonly copied: boolean; readonly zero: boolean },
): void {
  const high = Math.floor(host / 0x1_0000_0000);
  view.setUint32(position, (flags.copied ? high | COPIED_HIGH : high) >>> 0);
  view.setUint32(position + 4, (host % 0x1_0000_0000) + (flags.zero ? ZERO_LOW : 0));
}

/** Writes the entry of a compressed cluster of `length` bytes at `host`. */
export function encodeCompressed(
  view: DataView,
  position: number,
  { clusterBits }: Pick<Geometry, 'clusterBits'>,
  host: number,
  length: number,
): void {
  const offsetBitsHigh = 62 - (clusterBits - 8) - 32;
  const additionalSectors = Math.floor((host + length - 1) / SECTOR) - Math.floor(host / SECTOR);
  const hostHigh = Math.floor(host / 0x1_0000_0000);
  view.setUint32(
    position,
    (COMPRESSED_HIGH | (additionalSectors << offsetBitsHigh) | hostHigh) >>> 0,
  );
  view.setUint32(position + 4, host % 0x1_0000_0000);
}
