// Header clusters for tests: sound ones, and sound ones with single fields changed.

import { viewOf, writeField } from '../../src/qcow2/fields.ts';
import { encodeHeader, type NewHeader } from '../../src/qcow2/header.ts';
import { HEADER, MAGIC, NEW_HEADER_LENGTH, V2_HEADER_LENGTH } from '../../src/qcow2/spec.ts';

/** A version 3 header that parses, of a disk of 1 MiB in clusters of 512 bytes. */
export const SOUND: NewHeader = {
  magic: MAGIC,
  version: 3,
  backingFileSize: 0,
  clusterBits: 9,
  size: 1024 * 1024,
  cryptMethod: 0,
  l1Size: 32,
  l1TableOffset: 512 * 3,
  refcountTableOffset: 512,
  refcountTableClusters: 1,
  nbSnapshots: 0,
  snapshotsOffset: 0,
  incompatibleFeatures: 0n,
  compatibleFeatures: 0n,
  autoclearFeatures: 0n,
  refcountOrder: 4,
  headerLength: NEW_HEADER_LENGTH,
  compressionType: 'zlib',
  extensions: [],
  backingFile: null,
};

export const SOUND_V2: NewHeader = { ...SOUND, version: 2, headerLength: V2_HEADER_LENGTH };

export type RawFields = { readonly [K in keyof typeof HEADER]?: number | bigint };

/** The cluster of a sound header in which some fields say something else. */
export function headerWith(fields: RawFields, base: NewHeader = SOUND): Uint8Array {
  const bytes = new Uint8Array(2 ** base.clusterBits);
  bytes.set(encodeHeader(base));
  for (const [name, value] of Object.entries(fields)) {
    const field = HEADER[name as keyof typeof HEADER];
    // Also what no sound writer could write.
    if (field.bits === 64) viewOf(bytes).setBigUint64(field.offset, BigInt(value));
    else writeField(bytes, field, value);
  }
  return bytes;
}
