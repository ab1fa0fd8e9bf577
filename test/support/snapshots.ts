// An internal snapshot, put into a small image by hand: our engine reads and keeps them, it does
// not make them.

import { viewOf, writeField, writeU64 } from '../../src/qcow2/fields.ts';
import type { Geometry } from '../../src/qcow2/geometry.ts';
import { geometryOfHeader, parseHeader } from '../../src/qcow2/header.ts';
import { getRefcount, setRefcount } from '../../src/qcow2/refcount.ts';
import { HEADER, SNAPSHOT } from '../../src/qcow2/spec.ts';

const COPIED = 1n << 63n;
const OFFSET = 0x00ff_ffff_ffff_fe00n;

/**
 * The image with a snapshot of its state: a copy of the L1 table and a snapshot table behind its
 * end, one reference more for each cluster that the L1 table leads to. One refcount block has to
 * cover it all.
 */
export function withSnapshot(image: Uint8Array): Uint8Array {
  const header = parseHeader(image);
  const clusterSize = 2 ** header.clusterBits;
  const end = Math.ceil(image.length / clusterSize) * clusterSize;
  const l1Clusters = Math.ceil((header.l1Size * 8) / clusterSize);
  const tableOffset = end + l1Clusters * clusterSize;
  const bytes = new Uint8Array(tableOffset + clusterSize);
  bytes.set(image);
  const view = viewOf(bytes);
  const block = bytes.subarray(Number(view.getBigUint64(header.refcountTableOffset)));
  const refer = (offset: number) => {
    const index = offset / clusterSize;
    const count = getRefcount(block, index, header.refcountOrder);
    setRefcount(block, index, header.refcountOrder, count + 1);
  };
  const { l1TableOffset, l1Size } = header;
  shareTables(bytes, l1TableOffset, l1Size, geometryOfHeader(header), refer);
  bytes.copyWithin(end, header.l1TableOffset, header.l1TableOffset + header.l1Size * 8);
  for (let offset = end; offset <= tableOffset; offset += clusterSize) refer(offset);
  writeEntry(bytes.subarray(tableOffset), end, header.l1Size, header.size);
  writeField(bytes, HEADER.nbSnapshots, 1);
  writeField(bytes, HEADER.snapshotsOffset, tableOffset);
  return bytes;
}

/** What is referred to twice is not written in place. */
function shareTables(
  bytes: Uint8Array,
  l1: number,
  l1Size: number,
  { clusterSize, l2EntryBytes }: Geometry,
  refer: (offset: number) => void,
): void {
  const view = viewOf(bytes);
  const share = (at: number): number => {
    const entry = view.getBigUint64(at);
    view.setBigUint64(at, entry & ~COPIED);
    const offset = Number(entry & OFFSET);
    if (offset !== 0) refer(offset);
    return offset;
  };
  for (let i = 0; i < l1Size; i++) {
    const l2 = share(l1 + i * 8);
    for (let at = l2; l2 !== 0 && at < l2 + clusterSize; at += l2EntryBytes) share(at);
  }
}

function writeEntry(entry: Uint8Array, l1Offset: number, l1Size: number, diskSize: number): void {
  writeField(entry, SNAPSHOT.l1TableOffset, l1Offset);
  writeField(entry, SNAPSHOT.l1Size, l1Size);
  writeField(entry, SNAPSHOT.extraDataSize, 16);
  writeU64(viewOf(entry), 48, diskSize);
}

/** The image as it was at its snapshot: the same file, its L1 table the active one. */
export function atSnapshot(image: Uint8Array): Uint8Array {
  const { snapshotsOffset } = parseHeader(image);
  const bytes = image.slice();
  const l1 = Number(viewOf(image).getBigUint64(snapshotsOffset));
  writeField(bytes, HEADER.l1TableOffset, l1);
  return bytes;
}
